//! Bodies of any length, in pieces: on their way to a thread that may wait, without a copy of all of
//! them in memory.

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use std::io::{self, Read};
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces of a body that wait for the thread.
const PIECES_MAX: usize = 4;
/// How long the next piece may take.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// A piece of a body, or its end: where neither comes any more, the body was cut off.
enum Piece {
    Bytes(Bytes),
    End,
}

/// Where the pieces are put.
pub(super) struct Forward(mpsc::Sender<Piece>);

/// The pieces, for a thread that may wait.
pub(super) struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    piece: Bytes,
    has_ended: bool,
}

/// A way for the pieces of a body.
pub(super) fn pieces() -> (Forward, Pieces) {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let pieces = Pieces {
        receiver,
        piece: Bytes::new(),
        has_ended: false,
    };
    (Forward(sender), pieces)
}

impl Forward {
    /// Hands the pieces on, until the body ends or they are more than `max` bytes: one piece beyond
    /// that tells the reader.
    ///
    /// What nobody takes any more is read nevertheless: a connection that ends with bytes unread is
    /// reset, and the refusal that was sent is lost on its way.
    pub(super) async fn run(self, mut body: Body, max: u64) {
        let mut length = 0;
        let mut is_wanted = true;
        loop {
            let piece = match tokio::time::timeout(PIECE_TIMEOUT, body.frame()).await {
                // Trailers are nothing to us.
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => return,
            };
            length += piece.len() as u64;
            is_wanted = is_wanted && self.0.send(Piece::Bytes(piece)).await.is_ok();
            if length > max {
                return;
            }
        }
        let _ = self.0.send(Piece::End).await;
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.has_ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Bytes(piece)) => self.piece = piece,
                Some(Piece::End) => self.has_ended = true,
                None => {
                    let cut = "the body was cut off";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, cut));
                }
            }
        }
        let length = buffer.len().min(self.piece.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}
