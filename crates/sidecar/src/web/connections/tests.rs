use super::*;

fn connections(all: usize, per_client: usize) -> Arc<Connections> {
    Arc::new(Connections::new(Limits { all, per_client }))
}

fn accept(connections: &Arc<Connections>, address: &str) -> Option<ConnectionPermit> {
    connections.accept(address.parse().unwrap(), false, &CancellationToken::new())
}

fn is_evicted(place: &ConnectionPermit) -> bool {
    place.connection.evicted.is_cancelled()
}

#[tokio::test(start_paused = true)]
async fn longest_idle_connection_is_evicted() {
    let connections = connections(8, 2);
    let first = accept(&connections, "10.0.0.1").unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    let second = accept(&connections, "10.0.0.1").unwrap();
    let other = accept(&connections, "10.0.0.2").unwrap();
    first.connection.begin();
    let third = accept(&connections, "10.0.0.1").unwrap();
    assert!(!is_evicted(&first) && is_evicted(&second), "the one that waits for us is spared");
    third.connection.begin();
    assert!(accept(&connections, "10.0.0.1").is_none(), "both wait for us");
    first.connection.respond();
    tokio::time::advance(Duration::from_secs(1)).await;
    third.connection.penalize();
    let fourth = accept(&connections, "10.0.0.1").unwrap();
    assert!(is_evicted(&third) && !is_evicted(&first), "a held one goes before one that is answered");
    drop((second, third));
    assert!(!is_evicted(&other) && !is_evicted(&fourth));
    assert_eq!(connections.open().all, 3, "first, other, fourth");
}

#[tokio::test(start_paused = true)]
async fn address_with_most_connections_is_evicted_from() {
    let connections = connections(4, 3);
    let honest = accept(&connections, "10.0.0.1").unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    let many: Vec<_> = (0..3).map(|_| accept(&connections, "10.0.0.2").unwrap()).collect();
    let _newcomer = accept(&connections, "10.0.0.3").unwrap();
    assert!(!is_evicted(&honest), "it is idle for longer, but it is not one of many");
    assert_eq!(many.iter().filter(|place| is_evicted(place)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn deadline_counts_from_the_last_state_change() {
    let connections = connections(4, 4);
    let place = accept(&connections, "10.0.0.1").unwrap();
    let second = Duration::from_secs(1);
    let deadlines = Deadlines { first_head: second, idle: 3 * second, response: 2 * second };
    let connection = Arc::clone(&place.connection);
    let start = Instant::now();
    let overdue = tokio::spawn(async move { (connection.overdue(&deadlines).await, start.elapsed()) });
    tokio::time::sleep(second / 2).await;
    place.connection.begin();
    tokio::time::sleep(20 * second).await;
    place.connection.respond();
    place.connection.flushed();
    tokio::time::sleep(second).await;
    assert!(!overdue.is_finished(), "the answer is not written yet, and has another second");
    place.connection.written();
    place.connection.flushed();
    let (why, after) = overdue.await.unwrap();
    assert_eq!((why, after), ("no further request was complete in time", second / 2 + 24 * second));
}

/// Pipelined requests, without reading the responses.
#[tokio::test(start_paused = true)]
async fn pipelined_requests_do_not_extend_the_response_deadline() {
    let connections = connections(4, 4);
    let place = accept(&connections, "10.0.0.1").unwrap();
    let second = Duration::from_secs(1);
    let deadlines = Deadlines { first_head: second, idle: second, response: 10 * second };
    let connection = Arc::clone(&place.connection);
    let start = Instant::now();
    let overdue = tokio::spawn(async move { (connection.overdue(&deadlines).await, start.elapsed()) });
    while !overdue.is_finished() {
        place.connection.begin();
        place.connection.respond();
        place.connection.written();
        tokio::time::sleep(second / 2).await;
    }
    assert_eq!(overdue.await.unwrap(), ("the answer was not taken in time", 10 * second));
}
