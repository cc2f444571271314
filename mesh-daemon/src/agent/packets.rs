//! Keeps the packet path as it should be, and says which version is in force.

use std::time::Duration;

use tokio::sync::watch;

use super::life::chain;
use crate::datapath::attach::TcMode;
use crate::datapath::reconcile::Datapath;
use crate::datapath::{Desired, Pins};

/// How often the kernel is looked at although nothing is to change: interfaces and neighbours may have.
const LOOK: Duration = Duration::from_millis(500);

/// Where and how.
#[derive(Debug, Clone)]
pub struct PacketPathConfig {
    /// Where maps and programs are pinned.
    pub pins: Pins,
    /// How programs are put on tasks' links.
    pub tc: TcMode,
    /// Seconds since 1970: when drains end.
    pub clock: fn() -> u64,
}

/// The packet path of this node.
pub struct PacketPath {
    config: PacketPathConfig,
    applied: watch::Sender<u64>,
}

impl PacketPath {
    pub(super) fn new(config: PacketPathConfig) -> (Self, watch::Receiver<u64>) {
        let applied = watch::Sender::new(0);
        let receiver = applied.subscribe();
        (Self { config, applied }, receiver)
    }

    /// Follows what is wanted, for ever.
    pub(super) async fn run(self, mut wanted: watch::Receiver<Option<Desired>>) {
        let mut datapath: Option<Datapath> = None;
        let mut said = String::new();
        loop {
            let now = wanted.borrow_and_update().clone();
            if let Some(desired) = now {
                let done = match &mut datapath {
                    Some(datapath) => datapath.reconcile(&desired).await,
                    None => {
                        match Datapath::start(self.config.pins.clone(), self.config.tc, self.config.clock, &desired)
                            .await
                        {
                            Ok(started) => {
                                datapath = Some(started);
                                Ok(())
                            }
                            Err(error) => Err(error),
                        }
                    }
                };
                match done {
                    Ok(()) => {
                        said.clear();
                        // Also if it is the same: a new session has not heard it.
                        self.applied.send_replace(desired.version);
                    }
                    Err(error) => {
                        // Said once per distinct error, not twice a second.
                        let text = chain(&error);
                        if text != said {
                            tracing::error!("packet path: {text}");
                            said = text;
                        }
                    }
                }
            }
            if matches!(tokio::time::timeout(LOOK, wanted.changed()).await, Ok(Err(_))) {
                return;
            }
        }
    }
}
