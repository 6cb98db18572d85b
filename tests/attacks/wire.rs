//! Records and handshake fragments, made and changed by hand.

use crate::link::World;

/// A handshake fragment (RFC 6347 section 4.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) message_type: u8,
    pub(crate) length: u32,
    pub(crate) message_seq: u16,
    pub(crate) offset: u32,
    /// What the header says of the body's length.
    pub(crate) fragment_length: u32,
    pub(crate) body: Vec<u8>,
}

impl Fragment {
    /// A whole message.
    pub(crate) fn whole(message_type: u8, message_seq: u16, body: &[u8]) -> Self {
        let length = u32::try_from(body.len()).expect("a short body");
        Self {
            message_type,
            length,
            message_seq,
            offset: 0,
            fragment_length: length,
            body: body.to_vec(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.message_type];
        out.extend_from_slice(&self.length.to_be_bytes()[1..]);
        out.extend_from_slice(&self.message_seq.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes()[1..]);
        out.extend_from_slice(&self.fragment_length.to_be_bytes()[1..]);
        out.extend_from_slice(&self.body);
        out
    }

    /// The fragment of a handshake record of epoch 0, which has one in our datagrams.
    pub(crate) fn decode(record: &[u8]) -> Option<Self> {
        let (header, rest) = record.split_at_checked(13)?;
        if header[0] != 22 || header[3..5] != [0, 0] {
            return None;
        }
        let (head, body) = rest.split_at_checked(12)?;
        let three = |bytes: &[u8]| u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        Some(Self {
            message_type: head[0],
            length: three(&head[1..4]),
            message_seq: u16::from_be_bytes([head[4], head[5]]),
            offset: three(&head[6..9]),
            fragment_length: three(&head[9..12]),
            body: body.to_vec(),
        })
    }
}

/// A record in the clear.
pub(crate) fn plain(content_type: u8, epoch: u16, sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut out = vec![content_type, 0xfe, 0xfd];
    out.extend_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes()[2..]);
    let length = u16::try_from(body.len()).expect("a short body");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// The records of a datagram.
pub(crate) fn records(mut datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while datagram.len() >= 13 {
        let length = 13 + usize::from(u16::from_be_bytes([datagram[11], datagram[12]]));
        let (record, rest) = datagram.split_at(length);
        records.push(record.to_vec());
        datagram = rest;
    }
    records
}

/// Whether a datagram is a HelloVerifyRequest.
pub(crate) fn is_hello_verify(datagram: &[u8]) -> bool {
    datagram[0] == 22 && datagram[13] == 3
}

/// Whether a datagram starts with a ClientHello, and if so whether that has a cookie.
pub(crate) fn hello_cookie(datagram: &[u8]) -> Option<bool> {
    let hello = Fragment::decode(records(datagram).first()?)?;
    let session_id = usize::from(*hello.body.get(34)?);
    let cookie = hello.body.get(35 + session_id)?;
    (hello.message_type == 1).then_some(*cookie > 0)
}

/// Somebody on the path: every datagram, with whether the server sent it, goes on as what `change`
/// makes of it. Ends when nothing is on its way; timers do not run.
pub(crate) fn relay(world: &mut World, mut change: impl FnMut(bool, Vec<u8>) -> Vec<Vec<u8>>) {
    world.faults.loss = 1000;
    world.cut();
    let mut next = 0;
    while let Some((by_server, datagram)) = world.log.get(next).cloned() {
        next += 1;
        for datagram in change(by_server, datagram) {
            if by_server {
                world.deliver_to_client(datagram);
            } else {
                world.deliver_to_server(datagram);
            }
        }
    }
    world.faults.loss = 0;
}

/// Changes the messages of a flight in the clear; what is protected goes on as it is. The records
/// are numbered anew.
pub(crate) fn change_messages(
    datagram: &[u8],
    mut change: impl FnMut(Fragment) -> Option<Fragment>,
) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records(datagram) {
        let Some(fragment) = Fragment::decode(&record) else {
            out.extend_from_slice(&record);
            continue;
        };
        if let Some(fragment) = change(fragment) {
            let sequence = u64::from_be_bytes([
                0, 0, record[5], record[6], record[7], record[8], record[9], record[10],
            ]);
            out.extend(plain(22, 0, sequence, &fragment.encode()));
        }
    }
    out
}

/// The session carries data both ways.
#[track_caller]
pub(crate) fn assert_alive(world: &mut World) {
    let before = world.server.readings.len();
    world.send_reading(b"alive");
    world.settle();
    assert_eq!(world.server.readings.len(), before + 1);
    world.send_answer(b"alive");
    world.settle();
    assert_eq!(world.client.received.last().expect("an answer"), b"alive");
}
