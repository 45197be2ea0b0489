//! Reading the answer of a backend that has closed its side before it has read the whole request.
//!
//! A backend may answer as soon as it has the head (`413 Content Too Large`, `401 Unauthorized`) and close. What is written
//! from then on fails, while the answer can still be read. An HTTP client that gives up at the failed write loses that
//! answer, whenever it wrote before it read. So a failed write is no failure here: what would be written is dropped, the
//! caller's connection stays in order, and reading tells what became of the request: an answer, or the end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose failed writes are left to its reader.
pub(super) struct EarlyAnswer<S> {
    inner: S,
    write_failed: bool,
}

impl<S> EarlyAnswer<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, write_failed: false }
    }

    /// The result of a write, if it has not failed.
    fn written<T>(&mut self, result: io::Result<T>) -> Option<T> {
        if let Err(error) = &result {
            tracing::debug!(%error, "the backend has closed the connection before it read the whole request");
            self.write_failed = true;
        }
        result.ok()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for EarlyAnswer<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for EarlyAnswer<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_failed {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes));
        Poll::Ready(Ok(self.written(result).unwrap_or(bytes.len())))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.write_failed {
            return Poll::Ready(Ok(length));
        }
        let result = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, slices));
        Poll::Ready(Ok(self.written(result).unwrap_or(length)))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.write_failed {
            let result = ready!(Pin::new(&mut self.inner).poll_flush(cx));
            self.written(result);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_failed {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http::Request;
    use http_body_util::Full;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;

    use super::*;

    /// A connection that the other side closes at the first write, with these bytes left to read.
    #[derive(Default)]
    struct Closed {
        left: &'static [u8],
        is_closed: bool,
        reader: Option<Waker>,
    }

    impl AsyncRead for Closed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if !self.is_closed {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            buffer.put_slice(std::mem::take(&mut self.left));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Closed {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            self.is_closed = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
        }
    }

    /// The status that a client reads, or its error.
    async fn status<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> hyper::Result<u16> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::post("/pay/7").body(Full::new(&b"a body"[..])).unwrap();
        sender.send_request(request).await.map(|answer| answer.status().as_u16())
    }

    const ANSWER: &[u8] = b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn answer_is_read_after_a_failed_write() {
        let closed = || Closed { left: ANSWER, ..Closed::default() };
        assert!(status(closed()).await.is_err(), "hyper reads it by itself: this module can go");
        assert_eq!(status(EarlyAnswer::new(closed())).await.unwrap(), 413);
    }

    #[tokio::test]
    async fn connection_closed_without_an_answer_is_an_error() {
        let error = status(EarlyAnswer::new(Closed::default())).await.unwrap_err();
        assert!(error.is_incomplete_message(), "{error}");
    }
}
