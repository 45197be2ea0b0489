// The events of the sidecar. They are read only while the page is visible: the sidecar polls the servers for viewers only.

// Milliseconds until a refused request is repeated. A login that is no longer valid must not look like a guess of passwords.
const FIRST_RETRY = 5_000;
const LONGEST_RETRY = 60_000;

/** Calls `on.report` and `on.sidecar` with the data of each event, and `on.state` with `live`, `lost` or `hidden`. */
export function connect(on) {
  let source = null;
  let timer = null;
  let retry = FIRST_RETRY;

  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const open = () => {
    close();
    // Relative to this file, so that it works below the prefix of a reverse proxy.
    source = new EventSource(new URL("events", import.meta.url));
    for (const name of ["report", "sidecar"]) {
      source.addEventListener(name, (event) => {
        retry = FIRST_RETRY;
        on.state("live");
        on[name](JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => {
      on.state("lost");
      // A refused request, for example for lack of a login, is not repeated by the browser.
      if (source?.readyState !== EventSource.CLOSED) return;
      timer = setTimeout(open, retry);
      retry = Math.min(2 * retry, LONGEST_RETRY);
    });
  };
  const follow = () => {
    if (document.hidden) {
      close();
      on.state("hidden");
    } else if (!source) {
      open();
    }
  };
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", close);
  addEventListener("pageshow", follow);
  follow();
}
