//! Block-wise transfer (RFC 7959): bodies longer than a message.
//!
//! ```text
//! request   Block1 0, 1, 2 ... last --> upload ------------> one request for the caller
//!           <-- 2.31 each, 4.08 out of order, 4.13 too long
//!
//! answer    whole body, or the part that holds the block --> cut --> Block2, ETag, Size2
//!           each further block is a GET of its own, and the caller answers it anew: nothing is kept;
//!           a POST is not run again: its last answer is kept, one per peer
//! ```
//!
//! The block size is the one that the client asks for, or a smaller one: what fits a message, and at
//! most 1024 bytes. Numbers follow, so that the block still begins where it was asked for (section
//! 2.4). The first block tells the size of the body (Size2, section 4), and every block its entity
//! tag, so that a client sees when the body has changed between two blocks (section 2.4).
//!
//! Invariants: at most `uploads_max` uploads and an answer of `upload_bytes_max` bytes each, and all of
//! a shard within the budget of its [`SpareBuffers`]; an upload is given up when no block of it has come for
//! EXCHANGE_LIFETIME. What belongs together is told by the options that name the resource and by
//! Request-Tag (RFC 9175 section 3.3).

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Settings;
use super::message::Content;
use super::option::Wishes;
use crate::auth::request::{Block, Part, RequestMessage, Response};
use crate::buffer::SpareBuffers;
use crate::time::Instant;

/// SZX of the largest blocks: 1024 bytes.
pub(super) const EXPONENT_MAX: u8 = 6;
/// Bytes of a message's header, token and options, at most.
const HEAD_MAX: usize = 64;
/// What a body takes of the shard's budget beside its bytes and its request's options: its places.
pub(super) const BODY_OVERHEAD: usize = 256;
/// Block numbers have 20 bits (RFC 7959 section 2.2).
const NUM_MAX: u32 = (1 << 20) - 1;

/// What a request wants of the form of its answer, while that is awaited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// To be repeated in the answer.
    pub(super) block1: Option<Block>,
    pub(super) block2: Option<Block>,
    pub(super) size2: bool,
}

impl Form {
    /// Whether there is nothing to remember of it.
    pub(super) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// Why no block can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutError {
    /// The body ends before the block that is asked for.
    BeyondEnd,
    /// The caller gave another part of the body than was asked for.
    WrongPart,
}

/// SZX of the largest blocks whose messages have `size_max` bytes at most; 0 when there are none.
pub(super) fn exponent_for(size_max: usize) -> u8 {
    let fits = |exponent: &u8| (16 << exponent) + HEAD_MAX <= size_max;
    (0..=EXPONENT_MAX).rev().find(fits).unwrap_or_default()
}

/// Leaves the first block of a body, if that is longer than one.
pub(super) fn keep_first(response: &mut Response, exponent_max: u8) {
    let size = 16 << exponent_max;
    if response.payload.len() <= size {
        return;
    }
    response.part.get_or_insert_with(|| Part {
        offset: 0,
        total: response.payload.len() as u64,
        etag: etag_of(&response.payload, response.content_format),
    });
    response.payload.truncate(size);
    response.payload.shrink_to_fit();
}

/// Cuts the block out of an answer that was asked for, or the first one when it does not fit; blocks
/// have `exponent_max` at most.
pub(super) fn cut(
    response: &Response,
    wanted: Option<Block>,
    size2: bool,
    exponent_max: u8,
) -> Result<Content<'_>, CutError> {
    let whole = Content::of(response);
    // A refusal has no blocks but its first.
    let wanted = wanted.filter(|_| response.code >> 5 == 2);
    let length = response.payload.len() as u64;
    let (base, total) = match response.part {
        Some(part) => (part.offset, part.total),
        None => (0, length),
    };
    let size_max = 16 << exponent_max;
    let is_short = total <= size_max && base == 0 && length == total;
    let wanted = match wanted {
        None if is_short => {
            let size2 = size2.then(|| saturated(total));
            return Ok(Content { size2, ..whole });
        }
        // An answer without a body has no blocks.
        Some(Block { num: 0, .. }) if total == 0 => return Ok(whole),
        Some(block) => shrunk(block, exponent_max).ok_or(CutError::BeyondEnd)?,
        None => Block {
            size_exponent: exponent_max,
            ..Block::default()
        },
    };
    let start = wanted.offset();
    if start >= total {
        return Err(CutError::BeyondEnd);
    }
    let end = wanted.range().end.min(total);
    let payload = start
        .checked_sub(base)
        .and_then(|from| usize::try_from(from).ok())
        .zip(usize::try_from(end - start).ok())
        .and_then(|(from, length)| response.payload.get(from..)?.get(..length))
        .ok_or(CutError::WrongPart)?;
    let etag = match response.part {
        Some(part) => part.etag,
        None => etag_of(&response.payload, response.content_format),
    };
    Ok(Content {
        etag: Some(etag),
        block2: Some(Block {
            more: end < total,
            ..wanted
        }),
        size2: (size2 || wanted.num == 0).then(|| saturated(total)),
        payload,
        ..whole
    })
}

/// The entity tag of a whole body.
fn etag_of(body: &[u8], content_format: Option<u16>) -> u64 {
    let mut hash = DefaultHasher::new();
    (content_format, body).hash(&mut hash);
    hash.finish()
}

/// The block that begins at the same byte, with `exponent_max` at most.
fn shrunk(block: Block, exponent_max: u8) -> Option<Block> {
    let by = block.size_exponent.saturating_sub(exponent_max);
    let num = block.num.checked_mul(1 << by)?;
    (num <= NUM_MAX).then_some(Block {
        num,
        size_exponent: block.size_exponent - by,
        more: false,
    })
}

fn saturated(size: u64) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// A request whose body is not complete yet.
#[derive(Debug)]
struct Upload {
    request: RequestMessage,
    request_tag: Option<u64>,
    deadline: Instant,
}

/// What is kept of a peer's transfers.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    /// By exchange in work.
    forms: Vec<(u32, Form)>,
    /// The one that is longest without a block first.
    uploads: Vec<Upload>,
    answer: Option<Answer>,
    /// Whether the shard has it among those that hold bodies.
    is_listed: bool,
    /// Whether a block came, or was asked for, since it was reviewed.
    goes_on: bool,
}

/// What a review of a peer's bodies came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Review {
    /// There are none any more.
    Nothing,
    /// A block came since the last review.
    GoesOn,
    /// They were given up.
    GivenUp,
}

/// The whole answer to a request other than GET, of which the first block was sent.
#[derive(Debug)]
struct Answer {
    response: Response,
    deadline: Instant,
}

/// What a block of a request came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The last one: here is the whole.
    Whole(RequestMessage),
    /// 2.31: the next one, please.
    Continue,
    /// 4.00: not as long as it says.
    Misshapen,
    /// 4.05: nothing that has a body.
    NotAllowed,
    /// 4.08: there is one missing before it.
    Incomplete,
    /// 4.13: the body is too long.
    TooLarge,
    /// 5.03: no memory at the moment.
    NoRoom,
}

impl Transfers {
    /// Takes a block; `request` has its payload.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        block: Block,
        request: RequestMessage,
        wishes: &Wishes,
        settings: &Settings,
        buffers: &mut SpareBuffers,
    ) -> Received {
        self.expire(now, buffers);
        self.goes_on = true;
        let payload = request.payload();
        // RFC 7959 section 2.2: with the more flag the payload has the block's size exactly.
        if payload.len() > block.size() || (block.more && payload.len() != block.size()) {
            return Received::Misshapen;
        }
        let known = self.uploads.iter().position(|upload| {
            upload.request_tag == wishes.request_tag && upload.request.is_alike(&request)
        });
        let known = known.map(|index| self.uploads.remove(index));
        let told = wishes.size1.map_or(0, |size| size as usize);
        if told.max(payload.len()) > settings.upload_bytes_max {
            give_up(known, buffers);
            return Received::TooLarge;
        }
        let deadline = now + settings.exchange_lifetime;
        let mut upload = match known {
            // RFC 7959 section 2.5: a first block begins anew.
            known if block.num == 0 => {
                give_up(known, buffers);
                while self.uploads.len() >= settings.uploads_max.max(1) {
                    give_up(Some(self.uploads.remove(0)), buffers);
                }
                if !buffers.claim(BODY_OVERHEAD + request.bytes_len()) {
                    return Received::NoRoom;
                }
                self.uploads.push(Upload {
                    request,
                    request_tag: wishes.request_tag,
                    deadline,
                });
                return Received::Continue;
            }
            None => return Received::Incomplete,
            Some(upload) => upload,
        };
        upload.deadline = deadline;
        let have = upload.request.payload().len();
        let end = block.offset() + payload.len() as u64;
        let received = if block.offset() > have as u64 {
            Received::Incomplete
        } else if end <= have as u64 {
            // It came before, under another Message ID.
            Received::Continue
        } else if block.offset() < have as u64 {
            Received::Incomplete
        } else if have + payload.len() > settings.upload_bytes_max {
            give_up(Some(upload), buffers);
            return Received::TooLarge;
        } else if !buffers.claim(payload.len()) {
            give_up(Some(upload), buffers);
            return Received::NoRoom;
        } else {
            upload.request.append_payload(payload);
            if !block.more {
                buffers.release(BODY_OVERHEAD + upload.request.bytes_len());
                let mut whole = upload.request;
                whole.block2 = request.block2;
                return Received::Whole(whole);
            }
            Received::Continue
        };
        self.uploads.push(upload);
        received
    }

    /// Remembers the form of an answer, of `forms_max` at most.
    pub(super) fn remember(&mut self, exchange: u32, form: Form, forms_max: usize) {
        if self.forms.len() >= forms_max.max(1) {
            self.forms.remove(0);
        }
        self.forms.push((exchange, form));
    }

    /// What was remembered of a request.
    pub(super) fn take_form(&mut self, exchange: u32) -> Form {
        let at = self.forms.iter().position(|(id, _)| *id == exchange);
        at.map_or_else(Form::default, |index| self.forms.swap_remove(index).1)
    }

    /// Gives up the uploads whose time is over.
    pub(super) fn expire(&mut self, now: Instant, buffers: &mut SpareBuffers) {
        while self.uploads.first().is_some_and(|u| u.deadline <= now) {
            give_up(Some(self.uploads.remove(0)), buffers);
        }
        if self.answer.as_ref().is_some_and(|a| a.deadline <= now) {
            self.drop_answer(buffers);
        }
    }

    /// Gives up all of it.
    pub(super) fn clear(&mut self, buffers: &mut SpareBuffers) {
        for upload in self.uploads.drain(..) {
            give_up(Some(upload), buffers);
        }
        self.drop_answer(buffers);
    }

    /// When the next upload or answer is given up.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let upload = self.uploads.first().map(|upload| upload.deadline);
        let answer = self.answer.as_ref().map(|answer| answer.deadline);
        upload.into_iter().chain(answer).min()
    }

    /// Keeps the answer to a request that is not to be run again for each block, if there is room.
    pub(super) fn keep_answer(
        &mut self,
        now: Instant,
        response: &Response,
        settings: &Settings,
        buffers: &mut SpareBuffers,
    ) {
        self.drop_answer(buffers);
        let length = response.payload.len();
        if length <= settings.upload_bytes_max && buffers.claim(BODY_OVERHEAD + length) {
            self.goes_on = true;
            self.answer = Some(Answer {
                response: response.clone(),
                deadline: now + settings.exchange_lifetime,
            });
        }
    }

    /// The answer that was kept last.
    pub(super) fn kept_answer(&mut self) -> Option<&Response> {
        self.goes_on = true;
        self.answer.as_ref().map(|answer| &answer.response)
    }

    pub(super) fn drop_answer(&mut self, buffers: &mut SpareBuffers) {
        if let Some(answer) = self.answer.take() {
            buffers.release(BODY_OVERHEAD + answer.response.payload.len());
        }
    }

    fn holds_bodies(&self) -> bool {
        !self.uploads.is_empty() || self.answer.is_some()
    }

    /// Whether it holds bodies and is to be listed among those that do; it counts as listed then.
    pub(super) fn list(&mut self) -> bool {
        let is_new = self.holds_bodies() && !self.is_listed;
        self.is_listed |= is_new;
        is_new
    }

    /// Whether it holds bodies; if not, it is listed among those that do no longer.
    pub(super) fn stay_listed(&mut self) -> bool {
        self.is_listed &= self.holds_bodies();
        self.is_listed
    }

    /// Its turn came to give way: it gives its bodies up unless it went on since the last time. It is
    /// listed no longer unless it goes on.
    pub(super) fn review(&mut self, buffers: &mut SpareBuffers) -> Review {
        let goes_on = std::mem::take(&mut self.goes_on);
        if !self.holds_bodies() {
            self.is_listed = false;
            return Review::Nothing;
        }
        if goes_on {
            return Review::GoesOn;
        }
        self.is_listed = false;
        self.clear(buffers);
        Review::GivenUp
    }

    /// Uploads and answers, and their bytes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn memory(&self) -> (usize, usize) {
        let uploads = self.uploads.iter().map(|u| u.request.payload().len());
        let answer = self.answer.iter().map(|a| a.response.payload.len());
        let lengths = uploads.chain(answer);
        (lengths.clone().count(), lengths.sum())
    }
}

fn give_up(upload: Option<Upload>, buffers: &mut SpareBuffers) {
    if let Some(upload) = upload {
        buffers.release(BODY_OVERHEAD + upload.request.bytes_len());
        buffers.put(upload.request.into_buffer());
    }
}
