//! One observe relation as the pool sees it: what of its notifications is on the way.

use crate::auth::request::{Notification, PeerRef, RelationId, Response, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Most notifications of a relation that its shard holds unacknowledged; what is beyond waits here.
pub(super) const WINDOW: usize = 8;

/// Most bytes of them, unless a single one has more.
const WINDOW_BYTES: usize = 8 << 10;

/// Longest body that goes in one message, without blocks.
pub(super) const MESSAGE_BYTES: usize = 1024;

/// Longest body that is kept until the observer has fetched all its blocks.
const LONG_BYTES_MAX: usize = 256 << 10;

/// Longest body of a notification: a shard holds no more of one.
pub(super) const NOTIFICATION_BYTES_MAX: usize = 48 << 10;

/// What a device can observe; of each it has one observer at most (TB section 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// `GET attributes`.
    Attributes,
    /// `GET rpc`.
    Rpc,
}

impl Topic {
    /// Its name, that of the resource.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attributes => "attributes",
            Self::Rpc => "rpc",
        }
    }
}

/// The observer of one topic of one device.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) relation: RelationId,
    peer: PeerRef,
    /// The Content-Format of the registration, which notifications repeat (TB section 7.9).
    pub(super) content_format: Option<u16>,
    next_delivery: u64,
    /// What the shard has and nobody has acknowledged, oldest first.
    window: VecDeque<InFlight>,
    /// The last body that goes in blocks: the observer fetches all but the first by requests of their
    /// own (RFC 7959 section 2.6), which say no more than that.
    long: Option<Box<Response>>,
    /// While the first answer waits for the store.
    pub(super) opening: Option<Box<Opening>>,
}

/// A notification that the shard has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    pub(super) delivery: u64,
    bytes: usize,
    /// The call that it brings; none for changes of attributes.
    pub(super) call: Option<i32>,
}

/// A first answer that tells of values which are not durable yet.
#[derive(Debug)]
pub(super) struct Opening {
    /// The write that it waits for.
    pub(super) after: u64,
    pub(super) verdict: Verdict,
    /// Whose place the relation takes.
    pub(super) replaced: Option<Farewell>,
}

/// A relation that has to be told that it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    relation: RelationId,
    peer: PeerRef,
}

impl Slot {
    pub(super) fn new(relation: RelationId, peer: PeerRef, content_format: Option<u16>) -> Self {
        Self {
            relation,
            peer,
            content_format,
            next_delivery: 0,
            window: VecDeque::new(),
            long: None,
            opening: None,
        }
    }

    /// Whether the shard takes another notification now, if it has `bytes` bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let held: usize = self.window.iter().map(|known| known.bytes).sum();
        let has_long = self.window.iter().any(|known| known.bytes > MESSAGE_BYTES);
        self.opening.is_none()
            && self.window.len() < WINDOW
            && (self.window.is_empty() || (held + bytes <= WINDOW_BYTES && !has_long))
    }

    /// The next notification; [`Self::pushed`] once it is on its way.
    pub(super) fn notification(&self, response: Response) -> Notification {
        Notification {
            peer: self.peer,
            relation: self.relation,
            delivery: self.next_delivery,
            response,
            last: false,
        }
    }

    pub(super) fn pushed(&mut self, response: Response, call: Option<i32>) {
        self.window.push_back(InFlight {
            delivery: self.next_delivery,
            bytes: response.payload.len(),
            call,
        });
        self.next_delivery += 1;
        self.keep_long(response);
    }

    /// Keeps what the observer will fetch block by block.
    pub(super) fn keep_long(&mut self, response: Response) {
        if (MESSAGE_BYTES + 1..=LONG_BYTES_MAX).contains(&response.payload.len()) {
            self.long = Some(Box::new(response));
        }
    }

    /// Whose session, or which plain peer, it is.
    pub(super) const fn peer(&self) -> PeerRef {
        self.peer
    }

    /// What was kept for `peer`.
    pub(super) fn long(&self, peer: PeerRef) -> Option<&Response> {
        self.long.as_deref().filter(|_| self.peer == peer)
    }

    /// `peer` begins to fetch something else.
    pub(super) fn forget_long(&mut self, peer: PeerRef) {
        if self.peer == peer {
            self.long = None;
        }
    }

    pub(super) fn find(&self, delivery: u64) -> Option<InFlight> {
        let mut window = self.window.iter();
        window.find(|known| known.delivery == delivery).copied()
    }

    /// Takes a notification out of the window, as nothing more will be heard of it.
    pub(super) fn done(&mut self, delivery: u64) -> Option<InFlight> {
        let mut window = self.window.iter();
        let at = window.position(|known| known.delivery == delivery)?;
        self.window.remove(at)
    }

    /// The calls that the shard has.
    pub(super) fn calls(&self) -> impl Iterator<Item = i32> {
        self.window.iter().filter_map(|known| known.call)
    }

    pub(super) fn farewell(&self) -> Farewell {
        Farewell {
            relation: self.relation,
            peer: self.peer,
        }
    }
}

impl Farewell {
    /// 2.02 without an Observe option: the end of the relation (TB section 8.3).
    pub(super) fn notification(self) -> Notification {
        const DELETED: u8 = 0x42;
        Notification {
            peer: self.peer,
            relation: self.relation,
            delivery: u64::MAX,
            response: Response::empty(DELETED),
            last: true,
        }
    }
}
