//! Block-wise transfer (RFC 7959) and Request-Tag (RFC 9175).

use coap_lite::{CoapOption, Packet};

use super::*;
use crate::auth::request::{Block, Part, RelationId, RequestMessage};
use crate::coap::block::BODY_OVERHEAD;

const GET: u8 = 1;
const POST: u8 = 2;
/// What an upload to `p` takes beside its payload.
const OVERHEAD: usize = BODY_OVERHEAD + 2;

/// A message as a client builds and reads it.
struct Message(Packet);

impl Message {
    fn new(method: u8, message_id: u16) -> Self {
        let mut packet = Packet::new();
        packet.header.code = method.into();
        packet.header.message_id = message_id;
        packet.set_token(message_id.to_be_bytes().to_vec());
        Self(packet).with(CoapOption::UriPath, b"p")
    }

    fn with(mut self, option: CoapOption, value: &[u8]) -> Self {
        self.0.add_option(option, value.to_vec());
        self
    }

    fn block(self, option: CoapOption, num: u32, more: bool, exponent: u8) -> Self {
        let value = num << 4 | u32::from(more) << 3 | u32::from(exponent);
        let bytes = value.to_be_bytes();
        let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(4);
        self.with(option, &bytes[start..])
    }

    fn payload(mut self, payload: &[u8]) -> Self {
        self.0.payload = payload.to_vec();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.to_bytes_unlimited().unwrap()
    }

    fn read(bytes: &[u8]) -> Self {
        Self(Packet::from_bytes(bytes).unwrap())
    }

    fn code(&self) -> u8 {
        self.0.header.code.into()
    }

    fn number(&self, option: CoapOption) -> Option<u32> {
        let value = self.0.get_first_option(option)?;
        Some(
            value
                .iter()
                .fold(0, |number, &byte| number << 8 | u32::from(byte)),
        )
    }

    /// Number, more flag and exponent of a block option.
    fn block_of(&self, option: CoapOption) -> Option<(u32, bool, u8)> {
        let value = self.number(option)?;
        Some((value >> 4, value & 8 != 0, (value & 7) as u8))
    }
}

impl Peer {
    /// Sends a message that the layer answers itself.
    fn ask(&mut self, message: &Message) -> Message {
        let input = self.receive(&message.bytes());
        let [sent] = std::mem::take(&mut self.sent).try_into().unwrap();
        let answer = Message::read(&sent);
        assert_eq!(input, Input::Answered(answer.code()));
        answer
    }

    /// Sends a message that reaches the caller.
    fn hand_in(&mut self, message: &Message) -> (u32, RequestMessage) {
        match self.receive(&message.bytes()) {
            Input::Request { exchange, message } => (exchange, message),
            other => panic!("{other:?}"),
        }
    }

    fn answered(&mut self, exchange: u32, response: &Response) -> Message {
        self.respond(exchange, response).unwrap();
        let [sent] = std::mem::take(&mut self.sent).try_into().unwrap();
        Message::read(&sent)
    }
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

fn whole(length: usize) -> Response {
    Response {
        payload: body(length),
        ..Response::empty(0x45)
    }
}

/// One block of a POST.
fn post(message_id: u16, num: u32, more: bool, exponent: u8, whole: &[u8]) -> Message {
    let size = 16 << exponent;
    let start = num as usize * size;
    let payload = &whole[start..whole.len().min(start + size)];
    Message::new(POST, message_id)
        .block(CoapOption::Block1, num, more, exponent)
        .payload(payload)
}

/// RFC 7959 section 2.4: from any size, any length, each block by itself, in any order.
#[test]
fn every_block_of_an_answer_is_served_by_itself() {
    for exponent in 0..=6_u8 {
        let size: usize = 16 << exponent;
        for length in [1, size - 1, size, size + 1, 3 * size, 1024 * 3 + 7] {
            let blocks = length.div_ceil(size);
            let mut peer = Peer::new();
            let mut tags = Vec::new();
            for num in (0..blocks).rev() {
                let request = Message::new(GET, num as u16).block(
                    CoapOption::Block2,
                    num as u32,
                    // In a request the more flag means nothing (section 2.4).
                    num % 2 == 0,
                    exponent,
                );
                let (exchange, message) = peer.hand_in(&request);
                let wanted = message.block2.unwrap();
                assert_eq!(wanted.offset(), (num * size) as u64);
                let answer = peer.answered(exchange, &whole(length));
                let more = num + 1 < blocks;
                let expected = Some((num as u32, more, exponent));
                assert_eq!(answer.block_of(CoapOption::Block2), expected);
                let end = length.min((num + 1) * size);
                assert_eq!(answer.0.payload, body(length)[num * size..end]);
                let size2 = (num == 0).then_some(length as u32);
                assert_eq!(answer.number(CoapOption::Size2), size2);
                tags.push(answer.0.get_first_option(CoapOption::ETag).unwrap().clone());
                peer.advance(300_000);
            }
            assert!(tags.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}

/// RFC 7959 section 2.4: without a Block2 option the server chooses; what fits goes whole.
#[test]
fn a_long_answer_begins_with_its_first_block() {
    let mut peer = Peer::new();
    let (exchange, message) = peer.hand_in(&Message::new(GET, 1));
    assert_eq!(message.block2, None);
    let answer = peer.answered(exchange, &whole(1024));
    assert_eq!(
        (answer.0.payload.len(), answer.block_of(CoapOption::Block2)),
        (1024, None)
    );
    let (exchange, _) = peer.hand_in(&Message::new(GET, 2));
    let answer = peer.answered(exchange, &whole(1025));
    assert_eq!(answer.block_of(CoapOption::Block2), Some((0, true, 6)));
    assert_eq!(answer.number(CoapOption::Size2), Some(1025));
    assert_eq!(answer.0.payload.len(), 1024);
    // The same to a NON, and in an answer by itself.
    let mut non = Message::new(GET, 3);
    non.0
        .header
        .set_type(coap_lite::MessageType::NonConfirmable);
    let (exchange, _) = peer.hand_in(&non);
    let answer = peer.answered(exchange, &whole(5000));
    assert_eq!(answer.block_of(CoapOption::Block2), Some((0, true, 6)));
    let (exchange, _) = peer.hand_in(&Message::new(GET, 4).block(CoapOption::Block2, 4, false, 6));
    peer.advance(500);
    peer.sent.clear();
    let answer = peer.answered(exchange, &whole(5000));
    assert_eq!(answer.block_of(CoapOption::Block2), Some((4, false, 6)));
    assert_eq!(answer.0.payload.len(), 5000 - 4096);
    // Size2 asks for the size of what fits, too (section 4).
    let (exchange, _) = peer.hand_in(&Message::new(GET, 5).with(CoapOption::Size2, b""));
    assert_eq!(
        peer.answered(exchange, &whole(9)).number(CoapOption::Size2),
        Some(9)
    );
}

/// RFC 7959 section 2.3: the server may use a smaller size, from the same byte on.
#[test]
fn blocks_shrink_to_what_a_message_holds() {
    let mut peer = Peer::with(Settings {
        message_size_max: 400,
        ..Settings::default()
    });
    let (exchange, _) = peer.hand_in(&Message::new(GET, 1));
    let answer = peer.answered(exchange, &whole(3000));
    assert_eq!(answer.block_of(CoapOption::Block2), Some((0, true, 4)));
    let (exchange, _) = peer.hand_in(&Message::new(GET, 2).block(CoapOption::Block2, 2, false, 6));
    let answer = peer.answered(exchange, &whole(3000));
    assert_eq!(answer.block_of(CoapOption::Block2), Some((8, true, 4)));
    assert_eq!(answer.0.payload, body(3000)[2048..2304]);
}

/// RFC 7959 section 2.4: a body that changes between two blocks shows in its entity tag.
#[test]
fn a_change_between_blocks_is_visible() {
    let mut peer = Peer::new();
    let mut tag = |message_id, response: &Response| {
        let request = Message::new(GET, message_id).block(CoapOption::Block2, 0, false, 4);
        let (exchange, _) = peer.hand_in(&request);
        let answer = peer.answered(exchange, response);
        answer.0.get_first_option(CoapOption::ETag).unwrap().clone()
    };
    let mut changed = whole(999);
    *changed.payload.last_mut().unwrap() ^= 1;
    let first = tag(1, &whole(999));
    assert_eq!(first, tag(2, &whole(999)));
    assert_ne!(first, tag(3, &changed));
}

#[test]
fn a_block_beyond_the_end_is_a_bad_request() {
    let mut peer = Peer::new();
    for (message_id, length, num) in [(1, 1024, 1), (2, 1025, 2), (3, 0, 1), (4, 9, 0xf_ffff)] {
        let request = Message::new(GET, message_id).block(CoapOption::Block2, num, false, 6);
        let (exchange, _) = peer.hand_in(&request);
        let answer = peer.answered(exchange, &whole(length));
        assert_eq!(
            (answer.code(), answer.0.payload.len()),
            (0x80, 0),
            "{length}"
        );
    }
    // A refusal stays what it is, whichever block was asked for.
    let (exchange, _) = peer.hand_in(&Message::new(GET, 9).block(CoapOption::Block2, 7, false, 6));
    assert_eq!(peer.answered(exchange, &Response::empty(0x81)).code(), 0x81);
}

/// The caller may give the part of a large body that holds the block, and no other.
#[test]
fn a_part_of_a_body_is_enough() {
    let total = 5_000_000;
    let part = |offset: u64, length| Response {
        part: Some(Part {
            offset,
            total,
            etag: 0x0102_0304_0506_0708,
        }),
        ..whole(length)
    };
    let ask = |peer: &mut Peer, message_id| {
        let request = Message::new(GET, message_id).block(CoapOption::Block2, 4000, false, 6);
        peer.hand_in(&request)
    };
    let mut peer = Peer::new();
    let (exchange, message) = ask(&mut peer, 1);
    let range = message.block2.unwrap().range();
    assert_eq!(range, 4000 * 1024..4001 * 1024);
    let answer = peer.answered(exchange, &part(range.start, 1024));
    assert_eq!(answer.block_of(CoapOption::Block2), Some((4000, true, 6)));
    assert_eq!(answer.0.payload, body(1024));
    let tag = answer.0.get_first_option(CoapOption::ETag).unwrap();
    assert_eq!(tag, &[1, 2, 3, 4, 5, 6, 7, 8]);
    // More than the block is cut; less, or another part, is a defect of the caller.
    let (exchange, _) = ask(&mut peer, 2);
    let answer = peer.answered(exchange, &part(range.start - 10, 2000));
    assert_eq!(answer.0.payload, body(2000)[10..1034]);
    for (message_id, response) in [
        (3, part(range.start, 1023)),
        (4, part(range.start + 1, 1024)),
    ] {
        let (exchange, _) = ask(&mut peer, message_id);
        assert_eq!(
            peer.respond(exchange, &response),
            Err(DropReason::CoapAnswerUnfit)
        );
        assert_eq!(peer.sent.pop().unwrap()[1], 0xa0);
    }
}

/// RFC 7959 section 2.6: a notification has the first block, in the size that the registration asked
/// for; a GET for another block registers nothing.
#[test]
fn a_long_notification_is_its_first_block() {
    let mut peer = Peer::new();
    let register =
        Message::new(GET, 1)
            .with(CoapOption::Observe, b"")
            .block(CoapOption::Block2, 0, false, 2);
    let (exchange, message) = peer.hand_in(&register);
    assert_eq!(message.observe, Some(0));
    let first = Response {
        relation: Some(RelationId(1)),
        ..whole(100)
    };
    let answer = peer.answered(exchange, &first);
    assert_eq!(answer.block_of(CoapOption::Block2), Some((0, true, 2)));
    assert_eq!(answer.number(CoapOption::Observe), Some(0));
    let notification = crate::auth::request::Notification {
        peer: crate::auth::request::PeerRef {
            shard: 0,
            slot: 0,
            generation: 0,
        },
        relation: RelationId(1),
        delivery: 1,
        response: whole(5000),
        last: false,
    };
    peer.run(|layer, now, cx| layer.notify(now, notification, cx))
        .unwrap();
    let sent = Message::read(&peer.sent.pop().unwrap());
    assert_eq!(sent.block_of(CoapOption::Block2), Some((0, true, 2)));
    assert_eq!(
        (
            sent.number(CoapOption::Observe),
            sent.number(CoapOption::Size2)
        ),
        (Some(1), Some(5000))
    );
    assert_eq!(sent.0.payload, body(64));
    let tag = sent.0.get_first_option(CoapOption::ETag).unwrap().clone();
    let fetch =
        Message::new(GET, 2)
            .with(CoapOption::Observe, b"")
            .block(CoapOption::Block2, 1, false, 2);
    let (exchange, message) = peer.hand_in(&fetch);
    assert_eq!(message.observe, None);
    let answer = peer.answered(exchange, &whole(5000));
    assert_eq!(answer.0.payload, body(5000)[64..128]);
    assert_eq!(answer.number(CoapOption::Observe), None);
    assert_eq!(answer.0.get_first_option(CoapOption::ETag), Some(&tag));
}

/// RFC 7959 section 2.5: 2.31 for each block, the answer with the last; Block1 comes back in each.
#[test]
fn an_upload_is_one_request() {
    for exponent in 0..=6_u8 {
        let size: usize = 16 << exponent;
        for length in [size + 1, 2 * size, 3 * size - 1] {
            let mut peer = Peer::new();
            let content = body(length);
            let last = length.div_ceil(size) as u32 - 1;
            for num in 0..last {
                let block = post(num as u16, num, true, exponent, &content);
                let answer = peer.ask(&block);
                assert_eq!(answer.code(), 0x5f);
                assert_eq!(
                    answer.block_of(CoapOption::Block1),
                    Some((num, true, exponent))
                );
                // The repetition of a message is no second block (RFC 7252 section 4.5).
                peer.receive(&block.bytes());
                assert_eq!(Message::read(&peer.sent.pop().unwrap()).code(), 0x5f);
            }
            let end = post(last as u16, last, false, exponent, &content);
            let (exchange, message) = peer.hand_in(&end);
            assert_eq!((message.method, message.payload()), (POST, &content[..]));
            let path: Vec<_> = message.path().collect();
            assert_eq!(path, [b"p"]);
            let answer = peer.answered(exchange, &Response::empty(0x41));
            assert_eq!(answer.code(), 0x41);
            assert_eq!(
                answer.block_of(CoapOption::Block1),
                Some((last, false, exponent))
            );
            assert_eq!(
                (peer.layer.upload_memory(), peer.buffers.claimed()),
                ((0, 0), 0)
            );
        }
    }
}

/// RFC 7959 section 2.9.2: 4.08 when blocks are missing; a block that came before is asked for no
/// second time.
#[test]
fn blocks_out_of_order_are_incomplete() {
    let mut peer = Peer::new();
    let content = body(100);
    let mut ask =
        |message_id, num, more| peer.ask(&post(message_id, num, more, 1, &content)).code();
    assert_eq!(ask(1, 1, true), 0x88, "never begun");
    assert_eq!(ask(2, 0, true), 0x5f);
    assert_eq!(ask(3, 2, true), 0x88, "one is missing");
    assert_eq!(ask(4, 1, true), 0x5f, "and comes now");
    assert_eq!(ask(5, 1, true), 0x5f, "again, under another Message ID");
    assert_eq!(ask(6, 2, true), 0x5f);
    // Begun anew: what came before is gone.
    assert_eq!(ask(7, 0, true), 0x5f);
    assert_eq!(ask(8, 3, false), 0x88);
    for (message_id, num, more) in [(9, 1, true), (10, 2, true)] {
        assert_eq!(ask(message_id, num, more), 0x5f);
    }
    let (_, message) = peer.hand_in(&post(11, 3, false, 1, &content));
    assert_eq!(message.payload(), content);
}

/// RFC 7959 section 2.2: with the more flag, a block is as long as it says.
#[test]
fn a_misshapen_block_is_a_bad_request() {
    let mut peer = Peer::new();
    let block = |message_id, more, length| {
        Message::new(POST, message_id)
            .block(CoapOption::Block1, 0, more, 1)
            .payload(&body(length))
    };
    assert_eq!(peer.ask(&block(1, true, 31)).code(), 0x80);
    assert_eq!(peer.ask(&block(2, true, 33)).code(), 0x80);
    assert_eq!(peer.layer.upload_memory(), (0, 0));
    let last = Message::new(POST, 3)
        .block(CoapOption::Block1, 1, false, 1)
        .payload(&body(33));
    assert_eq!(peer.ask(&last).code(), 0x80);
}

/// RFC 7959 section 2.9.3: 4.13 tells the size that is taken, at the first block if that says enough.
#[test]
fn an_upload_that_is_too_long_is_refused_early() {
    let mut peer = Peer::new();
    let content = body(70_000);
    let told = post(1, 0, true, 6, &content).with(CoapOption::Size1, &[1, 0, 1]);
    let answer = peer.ask(&told);
    assert_eq!(
        (answer.code(), answer.number(CoapOption::Size1)),
        (0x8d, Some(65_536))
    );
    // Or when it gets there.
    for num in 0..64 {
        assert_eq!(
            peer.ask(&post(100 + num, num.into(), true, 6, &content))
                .code(),
            0x5f
        );
    }
    assert_eq!(
        (peer.layer.upload_memory(), peer.buffers.claimed()),
        ((1, 65_536), 65_536 + OVERHEAD)
    );
    assert_eq!(peer.ask(&post(200, 64, true, 6, &content)).code(), 0x8d);
    assert_eq!(
        (peer.layer.upload_memory(), peer.buffers.claimed()),
        ((0, 0), 0)
    );
}

/// RFC 9175 section 3.3: blocks with different Request-Tags, or for different resources, never mix.
#[test]
fn uploads_are_told_apart() {
    const REQUEST_TAG: CoapOption = CoapOption::Unknown(292);
    let mut peer = Peer::new();
    let (one, other) = (body(40), vec![7; 40]);
    let mut ask = |message: Message| peer.ask(&message).code();
    assert_eq!(ask(post(1, 0, true, 1, &one)), 0x5f);
    assert_eq!(
        ask(post(2, 0, true, 1, &other).with(REQUEST_TAG, b"")),
        0x5f
    );
    // A third takes the place of the one that is longest without a block.
    assert_eq!(
        ask(post(3, 0, true, 1, &other).with(REQUEST_TAG, b"3")),
        0x5f
    );
    assert_eq!(ask(post(4, 1, false, 1, &one)), 0x88);
    let query = post(5, 1, false, 1, &other).with(CoapOption::UriQuery, b"q");
    assert_eq!(ask(query.with(REQUEST_TAG, b"3")), 0x88, "another resource");
    let (_, message) = peer.hand_in(&post(6, 1, false, 1, &other).with(REQUEST_TAG, b""));
    assert_eq!(message.payload(), other);
    let (_, message) = peer.hand_in(&post(7, 1, false, 1, &one).with(REQUEST_TAG, b"3"));
    assert_eq!(message.payload(), [&other[..32], &one[32..]].concat());
}

#[test]
fn uploads_are_given_up_and_stay_within_the_budget() {
    let mut peer = Peer::new();
    let content = body(4096);
    assert_eq!(peer.ask(&post(1, 0, true, 6, &content)).code(), 0x5f);
    // Other traffic does not keep it.
    peer.advance(200_000);
    let (exchange, _) = peer.hand_in(&Message::new(GET, 2));
    peer.respond(exchange, &Response::empty(0x45)).unwrap();
    peer.sent.clear();
    peer.advance(47_001);
    assert_eq!(
        (peer.layer.upload_memory(), peer.buffers.claimed()),
        ((0, 0), 0)
    );
    assert_eq!(peer.ask(&post(3, 1, true, 6, &content)).code(), 0x88);
    // The shard's budget is spent by others.
    while peer.buffers.claim(1) {}
    let answer = peer.ask(&post(4, 0, true, 6, &content));
    assert_eq!(
        (answer.code(), answer.number(CoapOption::MaxAge)),
        (0xa3, Some(2))
    );
    peer.buffers.release(1024 + OVERHEAD);
    assert_eq!(peer.ask(&post(5, 0, true, 6, &content)).code(), 0x5f);
    assert_eq!(peer.ask(&post(6, 1, true, 6, &content)).code(), 0xa3);
    peer.layer.end_transfers(&mut peer.buffers);
    assert!(peer.buffers.claim(1024 + OVERHEAD) && !peer.buffers.claim(1));
}

/// Nothing but POST takes a body here, and No-Response does not keep 2.31 away (RFC 7967 section 2).
#[test]
fn only_a_post_is_uploaded() {
    let mut peer = Peer::new();
    for (message_id, method) in [(1, GET), (3, 3), (5, 5), (6, 6), (7, 7)] {
        let block = Message::new(method, message_id)
            .block(CoapOption::Block1, 0, true, 0)
            .payload(&body(16));
        assert_eq!(peer.ask(&block).code(), 0x85);
    }
    assert_eq!(peer.layer.upload_memory(), (0, 0));
    let quiet = |message: Message| message.with(CoapOption::Unknown(258), &[0x1a]);
    let content = body(20);
    assert_eq!(peer.ask(&quiet(post(8, 0, true, 0, &content))).code(), 0x5f);
    let (exchange, _) = peer.hand_in(&quiet(post(9, 1, false, 0, &content)));
    peer.respond(exchange, &Response::empty(0x41)).unwrap();
    assert_eq!(peer.sent(), ["60000009"]);
}

/// RFC 7959 section 2.7: an answer to a POST can have blocks, too. The request is not run for each.
#[test]
fn a_post_is_run_once_for_all_blocks_of_its_answer() {
    let mut peer = Peer::new();
    let next =
        |message_id, num| Message::new(POST, message_id).block(CoapOption::Block2, num, false, 5);
    assert_eq!(peer.ask(&next(1, 1)).code(), 0x88, "of no answer");
    let (exchange, _) = peer.hand_in(&Message::new(POST, 2).block(CoapOption::Block2, 0, false, 5));
    let mut got = peer.answered(exchange, &whole(1300)).0.payload;
    for (message_id, num) in [(3, 1), (4, 2)] {
        let answer = peer.ask(&next(message_id, num));
        assert_eq!(
            answer.block_of(CoapOption::Block2),
            Some((num, num == 1, 5))
        );
        got.extend(answer.0.payload);
    }
    assert_eq!(got, body(1300));
    assert_eq!(
        (peer.layer.upload_memory(), peer.buffers.claimed()),
        ((0, 0), 0)
    );
    assert_eq!(peer.ask(&next(5, 1)).code(), 0x88, "it was all fetched");
}

#[test]
fn a_block_knows_its_bytes() {
    let block = Block {
        num: 3,
        more: false,
        size_exponent: 2,
    };
    assert_eq!(
        (block.size(), block.offset(), block.range()),
        (64, 192, 192..256)
    );
}
