//! A second reader of the caller's bytes, which finds what hyper has thrown away by the time that a request is there.
//!
//! hyper takes a request with a length and with chunks as one with chunks, removes the length, and closes the connection
//! afterwards, which RFC 9112 permits. A proxy before this one may have gone by the length. It also takes a line feed alone
//! for the end of a line. Both are refused here. This reader changes nothing of what passes; where it is not sure, it says so.

use std::collections::VecDeque;

use memchr::memchr;

/// What was found in the head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Nothing that could be read in two ways.
    Clear,
    /// Why it is refused.
    Ambiguous(&'static str),
    /// This reader has lost its place.
    Unknown,
}

/// The most heads that wait for their request to be served.
const MAX_WAITING: usize = 256;

/// Follows the messages on a connection by HTTP/1.1.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    state: State,
    heads: VecDeque<Reading>,
}

#[derive(Debug)]
enum State {
    Head(Head),
    /// The number of bytes of a body that are left.
    Fixed(u64),
    Chunks(Chunks),
    /// It is no HTTP/1.1, or not any more.
    Lost,
}

impl Default for State {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

/// The lines of a head, of which no more is kept than the beginning of one.
#[derive(Debug, Default)]
struct Head {
    line: Line,
    /// The request line has come.
    began: bool,
    length: Option<u64>,
    has_length: bool,
    has_coding: bool,
    bare_line_feed: bool,
}

/// Room for the longest name that matters, and a length behind it.
const ROOM: usize = 64;

#[derive(Debug)]
struct Line {
    start: [u8; ROOM],
    kept: usize,
    length: usize,
    last: u8,
}

impl Default for Line {
    fn default() -> Self {
        Self { start: [0; ROOM], kept: 0, length: 0, last: 0 }
    }
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        let kept = bytes.len().min(ROOM - self.kept);
        self.start[self.kept..self.kept + kept].copy_from_slice(&bytes[..kept]);
        self.kept += kept;
        self.length += bytes.len();
        self.last = *last;
    }

    fn whole(&self) -> WholeLine<'_> {
        WholeLine { start: &self.start[..self.kept], length: self.length, last: self.last }
    }
}

/// A line without its line feed.
#[derive(Debug, Clone, Copy)]
struct WholeLine<'a> {
    start: &'a [u8],
    length: usize,
    last: u8,
}

impl<'a> WholeLine<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self {
            start: &bytes[..bytes.len().min(ROOM)],
            length: bytes.len(),
            last: bytes.last().copied().unwrap_or_default(),
        }
    }

    fn is_empty(self) -> bool {
        self.length == 0 || (self.length == 1 && self.last == b'\r')
    }

    /// The value, if it is the header of that name.
    fn header(self, name: &[u8]) -> Option<&'a [u8]> {
        let (found, rest) = self.start.split_at_checked(name.len())?;
        (found.eq_ignore_ascii_case(name) && rest.first() == Some(&b':')).then(|| rest[1..].trim_ascii())
    }
}

#[derive(Debug)]
enum Chunks {
    /// In the line with the size.
    Size { size: u64, in_extension: bool },
    /// In the data and the line's end behind it.
    Data(u64),
    /// After the last chunk: the number of bytes of a line of the trailers.
    Trailers { length: usize, last: u8 },
}

impl Framing {
    /// Follows what was read.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            match &mut self.state {
                State::Lost => return,
                State::Fixed(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[taken..];
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::default();
                    }
                }
                State::Head(head) => {
                    let (taken, ended) = head.read(bytes);
                    bytes = &bytes[taken..];
                    if let Some(ended) = ended {
                        self.end_head(&ended);
                    }
                }
                State::Chunks(chunks) => match chunks.read(bytes) {
                    Some((taken, None)) => bytes = &bytes[taken..],
                    Some((taken, Some(()))) => {
                        bytes = &bytes[taken..];
                        self.state = State::default();
                    }
                    None => self.state = State::Lost,
                },
            }
        }
    }

    fn end_head(&mut self, head: &Head) {
        let reading = if head.has_coding && head.has_length {
            Reading::Ambiguous("there are a length and a transfer coding")
        } else if head.bare_line_feed {
            Reading::Ambiguous("a line ends with a line feed alone")
        } else {
            Reading::Clear
        };
        if self.heads.len() == MAX_WAITING {
            self.state = State::Lost;
            return;
        }
        self.heads.push_back(reading);
        self.state = match (head.has_coding, head.has_length, head.length) {
            _ if reading != Reading::Clear => State::Lost,
            (true, ..) => State::Chunks(Chunks::Size { size: 0, in_extension: false }),
            (false, true, Some(0)) | (false, false, _) => State::default(),
            (false, true, Some(length)) => State::Fixed(length),
            (false, true, None) => State::Lost,
        };
    }

    /// What was found in the head of the request that is served now.
    pub(crate) fn next(&mut self) -> Reading {
        self.heads.pop_front().unwrap_or(Reading::Unknown)
    }

    /// The connection speaks another protocol from here on.
    pub(crate) fn lose(&mut self) {
        self.state = State::Lost;
    }
}

impl Head {
    /// How much was taken, which is no more than a line, and what the head was, after its last byte.
    fn read(&mut self, bytes: &[u8]) -> (usize, Option<Self>) {
        let Some(end) = memchr(b'\n', bytes) else {
            self.line.push(bytes);
            return (bytes.len(), None);
        };
        if self.line.length == 0 {
            // Nearly every line comes in one piece, and is read where it stands.
            return (end + 1, self.end_line(WholeLine::of(&bytes[..end])));
        }
        let mut line = std::mem::take(&mut self.line);
        line.push(&bytes[..end]);
        (end + 1, self.end_line(line.whole()))
    }

    fn end_line(&mut self, line: WholeLine<'_>) -> Option<Self> {
        self.bare_line_feed |= line.last != b'\r';
        if line.is_empty() {
            // Empty lines before a request are skipped.
            return self.began.then(|| std::mem::take(self));
        }
        if !self.began {
            self.began = true;
        } else if let Some(value) = line.header(b"content-length") {
            self.has_length = true;
            self.length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
        } else if line.header(b"transfer-encoding").is_some() {
            self.has_coding = true;
        }
        None
    }
}

impl Chunks {
    /// How much was taken, and whether the body has ended. `None` if it is malformed, which is hyper's to refuse.
    fn read(&mut self, bytes: &[u8]) -> Option<(usize, Option<()>)> {
        let byte = bytes[0];
        match self {
            Self::Data(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Size { size: 0, in_extension: false };
                }
                Some((taken, None))
            }
            Self::Size { size, .. } if byte == b'\n' => {
                *self = match *size {
                    0 => Self::Trailers { length: 0, last: 0 },
                    // The line's end behind the data is a part of it.
                    size => Self::Data(size.checked_add(2)?),
                };
                Some((1, None))
            }
            Self::Size { size, in_extension } => {
                match char::from(byte).to_digit(16) {
                    Some(digit) if !*in_extension => {
                        *size = size.checked_mul(16)?.checked_add(u64::from(digit))?;
                    }
                    _ => *in_extension = true,
                }
                Some((1, None))
            }
            Self::Trailers { length, last } => {
                if byte == b'\n' {
                    let is_empty = *length == 0 || (*length == 1 && *last == b'\r');
                    (*length, *last) = (0, 0);
                    return Some((1, is_empty.then_some(())));
                }
                *length += 1;
                *last = byte;
                Some((1, None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Reading = Reading::Ambiguous("there are a length and a transfer coding");

    /// Whatever pieces it comes in.
    fn readings(text: &str) -> Vec<Reading> {
        let of = |size: usize| {
            let mut framing = Framing::default();
            for piece in text.as_bytes().chunks(size) {
                framing.read(piece);
            }
            Vec::from(framing.heads)
        };
        let whole = of(text.len());
        for size in [1, 2, 3, 7] {
            assert_eq!(of(size), whole, "in pieces of {size}: {text:?}");
        }
        whole
    }

    #[test]
    fn messages_are_followed_one_after_the_other() {
        let text = "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n\
                    POST / HTTP/1.1\r\ncontent-length: 20\r\n\r\ntransfer-encoding: x\
                    POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=f\r\nhello\r\nA\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n\
                    POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n\
                    POST / HTTP/1.1\r\nContent-Length:5\r\nTRANSFER-ENCODING:chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(readings(text), [Reading::Clear, Reading::Clear, Reading::Clear, Reading::Clear, BOTH]);
    }

    #[test]
    fn a_line_feed_alone_is_found_wherever_it_ends_a_line() {
        for text in [
            "GET / HTTP/1.1\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\n",
        ] {
            assert!(matches!(readings(text)[..], [Reading::Ambiguous(_)]), "{text:?}");
        }
    }

    #[test]
    fn who_has_lost_the_place_says_so() {
        let mut framing = Framing::default();
        framing.read(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n");
        assert_eq!((framing.next(), framing.next()), (Reading::Clear, Reading::Unknown));
    }
}
