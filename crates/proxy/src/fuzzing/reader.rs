//! A strict reader of HTTP/1.1, which shares nothing with the one that the proxy uses: what it cannot read in exactly one
//! way is wrong.

/// What a backend has received on a connection: at most one request, whole or cut off.
///
/// # Errors
///
/// If it can be read in two ways, or if there is more.
pub(super) fn request(bytes: &[u8]) -> Result<(), String> {
    let Some((head, rest)) = split(bytes, b"\r\n\r\n") else { return Ok(()) };
    let lines = lines(head)?;
    let [method, target, version] = lines[0].split(' ').collect::<Vec<_>>()[..] else {
        return Err("the request line has not three parts".to_owned());
    };
    if version != "HTTP/1.1" || !is_token(method) || target.is_empty() {
        return Err("the request line is malformed".to_owned());
    }
    let headers = headers(&lines[1..])?;
    if headers.iter().filter(|(name, _)| name == "host").count() != 1 {
        return Err("there is not one Host header".to_owned());
    }
    let is_upgrade = headers.iter().any(|(name, _)| name == "upgrade");
    for (name, value) in &headers {
        let passes = match name.as_str() {
            "connection" => is_upgrade && value == "upgrade",
            "te" => value == "trailers",
            "keep-alive" | "proxy-connection" | "proxy-authorization" | "http2-settings" => false,
            _ => true,
        };
        if !passes {
            return Err(format!("a header of one hop passes: {name}"));
        }
    }
    match body(&headers, rest)? {
        Body::Whole([]) | Body::Cut => Ok(()),
        Body::Whole(_) => Err("there is something behind the request".to_owned()),
        Body::ToTheEnd if rest.is_empty() => Ok(()),
        Body::ToTheEnd => Err("there is something behind a request without a body".to_owned()),
    }
}

/// What a caller has received.
pub(super) enum Answer {
    Whole,
    /// Another protocol follows.
    Upgrade,
    BrokenOff,
}

/// # Errors
///
/// If it is no answer, or if there is more.
pub(super) fn answer(bytes: &[u8], is_head: bool) -> Result<Answer, String> {
    let Some((head, rest)) = split(bytes, b"\r\n\r\n") else {
        return if bytes.is_empty() { Ok(Answer::BrokenOff) } else { Err("a head is cut off".to_owned()) };
    };
    let lines = lines(head)?;
    let status = lines[0].strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status: u16 = status.and_then(|status| status.parse().ok()).ok_or("the status line is malformed")?;
    let headers = headers(&lines[1..])?;
    match status {
        101 => return Ok(Answer::Upgrade),
        100 => return answer(rest, is_head),
        102..200 => return Err("an interim answer passes".to_owned()),
        _ => {}
    }
    if is_head || matches!(status, 204 | 304) {
        return if rest.is_empty() { Ok(Answer::Whole) } else { Err("there is a body".to_owned()) };
    }
    match body(&headers, rest)? {
        Body::Whole([]) => Ok(Answer::Whole),
        Body::Whole(_) => Err("there is something behind the answer".to_owned()),
        Body::Cut => Ok(Answer::BrokenOff),
        Body::ToTheEnd => Err("the answer has no length".to_owned()),
    }
}

enum Body<'a> {
    /// With what follows.
    Whole(&'a [u8]),
    Cut,
    /// There is no length and no coding.
    ToTheEnd,
}

fn body<'a>(headers: &[(String, String)], rest: &'a [u8]) -> Result<Body<'a>, String> {
    let of = |wanted: &str| {
        let mut values = headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(format!("there are two of {wanted}")),
            (value, None) => Ok(value),
        }
    };
    match (of("content-length")?, of("transfer-encoding")?) {
        (Some(_), Some(_)) => Err("there are a length and a coding".to_owned()),
        (None, None) => Ok(Body::ToTheEnd),
        (Some(length), None) => {
            if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err("the length is no number".to_owned());
            }
            let length: usize = length.parse().map_err(|_| "the length is too large")?;
            Ok(rest.get(length..).map_or(Body::Cut, Body::Whole))
        }
        (None, Some("chunked")) => chunks(rest),
        (None, Some(_)) => Err("the coding is not chunked".to_owned()),
    }
}

fn chunks(mut rest: &[u8]) -> Result<Body<'_>, String> {
    loop {
        let Some((line, after)) = split(rest, b"\r\n") else { return Ok(Body::Cut) };
        let text = std::str::from_utf8(line).map_err(|_| "a size is no text")?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("the size of a chunk is no number".to_owned());
        }
        let size = usize::from_str_radix(text, 16).map_err(|_| "a chunk is too large")?;
        if size == 0 {
            return trailers(after);
        }
        let Some(data) = after.get(size..) else { return Ok(Body::Cut) };
        match data.get(..2) {
            None => return Ok(Body::Cut),
            Some(b"\r\n") => rest = &data[2..],
            Some(_) => return Err("a chunk does not end with its line".to_owned()),
        }
    }
}

fn trailers(mut rest: &[u8]) -> Result<Body<'_>, String> {
    loop {
        let Some((line, after)) = split(rest, b"\r\n") else { return Ok(Body::Cut) };
        rest = after;
        if line.is_empty() {
            return Ok(Body::Whole(rest));
        }
        headers(&lines(line)?)?;
    }
}

fn split<'a>(bytes: &'a [u8], end: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(end.len()).position(|window| window == end)?;
    Some((&bytes[..at], &bytes[at + end.len()..]))
}

/// Bytes beyond ASCII may stand in values and targets.
fn lines(head: &[u8]) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    let mut rest = head;
    loop {
        let (line, after) = split(rest, b"\r\n").map_or((rest, None), |(line, after)| (line, Some(after)));
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | b'\0')) {
            return Err("a line has a control character".to_owned());
        }
        lines.push(String::from_utf8_lossy(line).into_owned());
        match after {
            Some(after) => rest = after,
            None => return Ok(lines),
        }
    }
}

fn headers(lines: &[String]) -> Result<Vec<(String, String)>, String> {
    let of = |line: &String| {
        let (name, value) = line.split_once(':').ok_or("a header has no colon")?;
        if !is_token(name) {
            return Err("the name of a header is malformed".to_owned());
        }
        Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
    };
    lines.iter().map(of).collect()
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
