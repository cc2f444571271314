//! Knocks at the place of a node that is missed, and stays at the door.
//!
//! A connection that the kernel there has taken is kept, and a byte sent on it now and then: it breaks at once
//! when the last process that has the listening socket ends, and soon when the machine does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::detector::Place;
use super::member::NodeKey;
use super::transport::Shared;

/// The kernel there has so long to take a connection.
const ANSWER: Duration = Duration::from_millis(110);
/// An attempt that failed is made once more after this time: a packet may be lost, and the socket changes hands
/// when a daemon is back.
const PAUSE: Duration = Duration::from_millis(30);
/// Attempts until nobody is at home.
const ATTEMPTS: u32 = 2;
/// Then it is tried again after this time: a link may have been down.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two bytes.
const BYTE: Duration = Duration::from_millis(100);
/// A byte that the kernel there has not acknowledged for so long breaks the connection.
const UNACKNOWLEDGED_MS: u32 = 500;

/// Knocks at one place.
pub(super) struct Knocker {
    pub(super) shared: Arc<Shared>,
    pub(super) node: NodeKey,
    pub(super) generation: u64,
    pub(super) at: SocketAddr,
}

impl Knocker {
    /// Knocks until the node is missed no longer.
    pub(super) async fn run(self) {
        let mut failed = 0;
        while self.is_missed() {
            match timeout(ANSWER, TcpStream::connect(self.at)).await {
                Ok(Ok(stream)) => {
                    failed = 0;
                    self.found(Place::Held);
                    self.stay(stream).await;
                    sleep(PAUSE).await;
                }
                Ok(Err(_)) | Err(_) if failed + 1 < ATTEMPTS => {
                    failed += 1;
                    sleep(PAUSE).await;
                }
                Ok(Err(_)) | Err(_) => {
                    failed = 0;
                    self.found(Place::Empty);
                    sleep(AGAIN).await;
                }
            }
        }
    }

    fn is_missed(&self) -> bool {
        self.shared.detector().is_missed(self.node, self.generation)
    }

    fn found(&self, place: Place) {
        self.shared.detector().knocked(self.node, self.generation, place);
        self.shared.wake();
    }

    /// Stays until the connection breaks, or the node is back.
    async fn stay(&self, mut stream: TcpStream) {
        if setsockopt(&stream, sockopt::TcpUserTimeout, &UNACKNOWLEDGED_MS).is_err() {
            return;
        }
        let (mut reader, mut writer) = stream.split();
        // A daemon that runs takes this for a knock, and closes.
        if writer.write_all(&[0; 4]).await.is_err() {
            return;
        }
        loop {
            let moved = tokio::select! {
                // Nobody says anything here: it is the end, or an error.
                _ = reader.read_u8() => return,
                () = sleep(BYTE) => writer.write_all(&[0]).await,
            };
            if moved.is_err() || !self.is_missed() {
                return;
            }
        }
    }
}
