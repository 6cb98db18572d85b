//! The client's side of an exchange, for the load generator and the tests: one request outstanding,
//! and notifications of what it observes (RFC 7641).
//!
//! ```text
//!        start                 empty ACK
//! Idle --------> Sent --------------------> Acknowledged
//!  ^   (CON: retransmitted)                      |
//!  |                | ACK with answer, or        | CON (acknowledged) or NON
//!  |                | CON or NON with answer     | with answer
//!  +----------------+----------------------------+
//!    also on RST, on the last retransmission's timeout, and at the deadline
//! ```
//!
//! RFC 7252 sections 4.2, 4.3, 5.2 and 5.3: answers are matched by token, ACK and RST by Message ID.
//!
//! An answer with an Observe option makes its request an observation. It ends with a notification that
//! has no such option or another code than 2.xx (RFC 7641 section 4.2), or when it is given up: what
//! comes under its token then is answered by RST.

use std::ops::Range;

use coap_lite::option_value::{OptionValueU16, OptionValueU32};
use coap_lite::{CoapOption, MessageType, Packet};

use super::message::{self, HEADER_LEN, Head, Token};
use super::message_id::MessageIds;
use super::option::{BLOCK1, BLOCK2, Malformed, OBSERVE, Options, uint_of};
use super::retransmission::{Expiry, Retransmission};
use super::{Context, code};
use crate::drop_reason::DropReason;
use crate::random::Random;
use crate::time::{Duration, Instant};

/// Bytes of the tokens that [`ClientExchange`] makes.
const TOKEN_LEN: usize = 4;
/// Separate answers and notifications remembered, to acknowledge them again.
const RECENT_MAX: usize = 16;
/// Observations at a time; the oldest makes room.
const OBSERVATIONS_MAX: usize = 8;

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestParts<'a> {
    /// The code byte: see [`code`](mod@super::code).
    pub method: u8,
    /// The Uri-Path options.
    pub path: &'a [&'a str],
    /// The Uri-Query options.
    pub queries: &'a [&'a str],
    /// The Content-Format option.
    pub content_format: Option<u16>,
    /// The Observe option.
    pub observe: Option<u32>,
}

/// A request encoded once, to be sent many times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTemplate {
    method: u8,
    options: Vec<u8>,
}

impl RequestTemplate {
    /// Encodes the options; `None` when they take more than 64 000 bytes.
    pub fn new(parts: &RequestParts<'_>) -> Option<Self> {
        let mut packet = Packet::new();
        packet.header.code = parts.method.into();
        for segment in parts.path {
            packet.add_option(CoapOption::UriPath, segment.as_bytes().to_vec());
        }
        for query in parts.queries {
            packet.add_option(CoapOption::UriQuery, query.as_bytes().to_vec());
        }
        if let Some(format) = parts.content_format {
            packet.add_option_as(CoapOption::ContentFormat, OptionValueU16(format));
        }
        if let Some(observe) = parts.observe {
            packet.add_option_as(CoapOption::Observe, OptionValueU32(observe));
        }
        let mut options = packet.to_bytes_with_limit(64_000).ok()?;
        options.drain(..HEADER_LEN);
        Some(Self {
            method: parts.method,
            options,
        })
    }

    /// Replaces `out` by the whole message. `token` of more than eight bytes is cut to eight.
    pub fn encode(
        &self,
        confirmable: bool,
        message_id: u16,
        token: &[u8],
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        let kind = if confirmable {
            MessageType::Confirmable
        } else {
            MessageType::NonConfirmable
        };
        let token = &token[..token.len().min(message::TOKEN_LEN_MAX)];
        let token = Token::new(token).unwrap_or_default();
        out.clear();
        message::emit_bare(kind, self.method, message_id, &token, &mut |head| {
            out.extend_from_slice(head);
        });
        out.extend_from_slice(&self.options);
        if !payload.is_empty() {
            out.push(0xff);
            out.extend_from_slice(payload);
        }
    }
}

/// What a received message came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientInput {
    /// An empty ACK: the answer comes later.
    Acknowledged,
    /// The answer; the exchange is over.
    Answer {
        /// Its code.
        code: u8,
        /// The Observe option; with one the request is an observation.
        observe: Option<u32>,
        /// Where its payload is in the message.
        payload: Range<usize>,
    },
    /// A notification of an observation.
    Notification {
        /// Which: [`ClientExchange::token`] of its request.
        token: u32,
        /// Its code.
        code: u8,
        /// The Observe option; without one the observation is over.
        observe: Option<u32>,
        /// Where its payload is in the message.
        payload: Range<usize>,
    },
    /// The server rejected the request; the exchange is over.
    Reset,
    /// Of no use; a ping or an answer that nobody waits for was answered as the RFC wants it.
    Dropped(DropReason),
}

/// What [`ClientExchange::handle_timeout`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTimeout {
    /// The exchange goes on, or there is none.
    Nothing,
    /// No answer came; the exchange is over.
    TimedOut,
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// Another one is outstanding.
    Busy,
    /// All Message IDs were used within the last EXCHANGE_LIFETIME (RFC 7252 section 4.4).
    NoMessageId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Sent {
        /// Of a confirmable request.
        timer: Option<Retransmission>,
        deadline: Instant,
    },
    Acknowledged {
        deadline: Instant,
    },
}

/// One device's exchanges with one server, one at a time.
#[derive(Debug)]
pub struct ClientExchange {
    state: State,
    message_ids: MessageIds,
    message_id: u16,
    token: u32,
    /// The request, while it may be sent again; its memory is used again.
    message: Vec<u8>,
    /// Message IDs of the last separate answers and notifications, newest first.
    recent: [Option<u16>; RECENT_MAX],
    /// Tokens of what is observed.
    observations: Vec<u32>,
    retransmissions: u64,
}

impl ClientExchange {
    /// A client that has sent nothing.
    pub fn new(random: &mut dyn Random) -> Self {
        let mut token = [0; 4];
        random.fill(&mut token);
        Self {
            state: State::Idle,
            message_ids: MessageIds::new(random),
            message_id: 0,
            token: u32::from_be_bytes(token),
            message: Vec::new(),
            recent: [None; RECENT_MAX],
            observations: Vec::new(),
            retransmissions: 0,
        }
    }

    /// Sends a request, and waits for its answer for `response_timeout` at most.
    ///
    /// # Errors
    ///
    /// When one is outstanding, or no Message ID is free.
    pub fn start(
        &mut self,
        now: Instant,
        template: &RequestTemplate,
        confirmable: bool,
        payload: &[u8],
        response_timeout: Duration,
        cx: &mut Context<'_>,
    ) -> Result<(), StartError> {
        let token = self.token.wrapping_add(1);
        self.start_under(
            token,
            now,
            template,
            confirmable,
            payload,
            response_timeout,
            cx,
        )
    }

    /// The same under a certain token: to observe again, or no longer, what is observed under it.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    #[allow(clippy::too_many_arguments, reason = "as `start`, and one more")]
    pub fn start_under(
        &mut self,
        token: u32,
        now: Instant,
        template: &RequestTemplate,
        confirmable: bool,
        payload: &[u8],
        response_timeout: Duration,
        cx: &mut Context<'_>,
    ) -> Result<(), StartError> {
        if self.state != State::Idle {
            return Err(StartError::Busy);
        }
        self.message_id = self
            .message_ids
            .take(now, cx.settings.exchange_lifetime)
            .ok_or(StartError::NoMessageId)?;
        self.token = token;
        template.encode(
            confirmable,
            self.message_id,
            &self.token_bytes(),
            payload,
            &mut self.message,
        );
        let timer = confirmable.then(|| Retransmission::start(now, cx.settings, cx.random));
        self.state = State::Sent {
            timer,
            deadline: now + response_timeout,
        };
        (cx.out)(&self.message);
        Ok(())
    }

    /// Takes one received message.
    pub fn handle_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> ClientInput {
        let head = match Head::decode(message) {
            Ok(head) => head,
            Err(reason) => return ClientInput::Dropped(reason),
        };
        match head.kind {
            MessageType::Acknowledgement => self.handle_acknowledgement(&head, message),
            MessageType::Reset => self.handle_reset(&head, message),
            MessageType::Confirmable | MessageType::NonConfirmable => {
                self.handle_separate(&head, message, cx)
            }
        }
    }

    /// Sends the request again, or gives it up, when that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant, cx: &mut Context<'_>) -> ClientTimeout {
        let (timer, deadline) = match &mut self.state {
            State::Idle => return ClientTimeout::Nothing,
            State::Sent { timer, deadline } => (timer.as_mut(), *deadline),
            State::Acknowledged { deadline } => (None, *deadline),
        };
        let mut over = deadline <= now;
        if let Some(timer) = timer
            && timer.at() <= now
            && !over
        {
            match timer.expire(now) {
                Expiry::SendAgain => {
                    self.retransmissions += 1;
                    (cx.out)(&self.message);
                }
                Expiry::GiveUp => over = true,
            }
        }
        if over {
            self.state = State::Idle;
            return ClientTimeout::TimedOut;
        }
        ClientTimeout::Nothing
    }

    /// When to call [`Self::handle_timeout`] next, if ever.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Idle => None,
            State::Sent { timer, deadline } => {
                Some(timer.map_or(deadline, |timer| deadline.min(timer.at())))
            }
            State::Acknowledged { deadline } => Some(deadline),
        }
    }

    /// Whether no request is outstanding.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// How many messages were sent again so far.
    pub const fn retransmissions(&self) -> u64 {
        self.retransmissions
    }

    /// The token of the request that was started last.
    pub const fn token(&self) -> u32 {
        self.token
    }

    /// Tokens of what is observed.
    pub fn observations(&self) -> &[u32] {
        &self.observations
    }

    /// Observes nothing under this token any more, without a word.
    pub fn forget(&mut self, token: u32) {
        self.observations.retain(|&observed| observed != token);
    }

    /// Gives the outstanding request up, for instance because its session ended.
    pub const fn abandon(&mut self) {
        self.state = State::Idle;
    }

    fn handle_acknowledgement(&mut self, head: &Head, message: &[u8]) -> ClientInput {
        let State::Sent {
            timer: Some(_),
            deadline,
        } = self.state
        else {
            return ClientInput::Dropped(DropReason::CoapUnmatched);
        };
        if head.message_id != self.message_id {
            return ClientInput::Dropped(DropReason::CoapUnmatched);
        }
        match code::class(head.code) {
            code::Class::Empty if head.is_of_empty(message) => {
                self.state = State::Acknowledged { deadline };
                ClientInput::Acknowledged
            }
            code::Class::Empty => ClientInput::Dropped(DropReason::CoapMalformed),
            // RFC 7252 section 5.3.2: token and Message ID MUST match.
            code::Class::Response => match self.read_answer(head, message) {
                Ok(answer) => self.finish(answer),
                Err(reason) => ClientInput::Dropped(reason),
            },
            code::Class::Request | code::Class::Reserved => {
                ClientInput::Dropped(DropReason::CoapCode)
            }
        }
    }

    fn handle_reset(&mut self, head: &Head, message: &[u8]) -> ClientInput {
        if !head.is_of_empty(message) {
            return ClientInput::Dropped(DropReason::CoapMalformed);
        }
        if !matches!(self.state, State::Sent { .. }) || head.message_id != self.message_id {
            return ClientInput::Dropped(DropReason::CoapUnmatched);
        }
        self.state = State::Idle;
        ClientInput::Reset
    }

    /// A CON or NON: the separate answer, or something that is to be rejected.
    fn handle_separate(
        &mut self,
        head: &Head,
        message: &[u8],
        cx: &mut Context<'_>,
    ) -> ClientInput {
        let confirmable = head.kind == MessageType::Confirmable;
        let answer = if self.recent.contains(&Some(head.message_id)) {
            Err(DropReason::CoapDuplicate)
        } else if code::class(head.code) != code::Class::Response {
            Err(DropReason::CoapCode)
        } else {
            self.read_separate(head, message)
        };
        if confirmable {
            let kind = match answer {
                Ok(_) | Err(DropReason::CoapDuplicate) => MessageType::Acknowledgement,
                Err(_) => MessageType::Reset,
            };
            (cx.out)(&message::empty(kind, head.message_id));
        }
        match answer {
            Ok(answer) => {
                self.recent.rotate_right(1);
                self.recent[0] = Some(head.message_id);
                if matches!(answer, ClientInput::Notification { .. }) {
                    return answer;
                }
                self.finish(answer)
            }
            Err(reason) => ClientInput::Dropped(reason),
        }
    }

    /// Reads what came by itself: the answer to the outstanding request, or a notification.
    fn read_separate(&mut self, head: &Head, message: &[u8]) -> Result<ClientInput, DropReason> {
        if self.state != State::Idle {
            match self.read_answer(head, message) {
                Err(DropReason::CoapUnmatched) => {}
                answer => return answer,
            }
        }
        let token = head.token.ok_or(DropReason::CoapMalformed)?;
        let mut observed = self.observations.iter().copied();
        let token = observed
            .rfind(|observed| token.as_bytes() == observed.to_be_bytes())
            .ok_or(DropReason::CoapUnmatched)?;
        let (payload, observe) = read_body(message)?;
        if observe.is_none() || head.code >> 5 != 2 {
            self.forget(token);
        }
        Ok(ClientInput::Notification {
            token,
            code: head.code,
            observe,
            payload,
        })
    }

    const fn finish(&mut self, answer: ClientInput) -> ClientInput {
        self.state = State::Idle;
        answer
    }

    /// Reads an answer to the outstanding request.
    fn read_answer(&mut self, head: &Head, message: &[u8]) -> Result<ClientInput, DropReason> {
        let token = head.token.ok_or(DropReason::CoapMalformed)?;
        if token.as_bytes() != self.token_bytes() {
            return Err(DropReason::CoapUnmatched);
        }
        let (payload, observe) = read_body(message)?;
        // Whatever was observed under the token: this answer says whether it still is.
        self.forget(self.token);
        if observe.is_some() && head.code >> 5 == 2 {
            if self.observations.len() >= OBSERVATIONS_MAX {
                self.observations.remove(0);
            }
            self.observations.push(self.token);
        }
        Ok(ClientInput::Answer {
            code: head.code,
            observe,
            payload,
        })
    }

    const fn token_bytes(&self) -> [u8; TOKEN_LEN] {
        self.token.to_be_bytes()
    }
}

/// Where an answer's payload is, and its Observe option. Block1 and Block2 are the critical options
/// that are known (RFC 7252 section 5.4.1); the message has a token of [`TOKEN_LEN`] bytes.
fn read_body(message: &[u8]) -> Result<(Range<usize>, Option<u32>), DropReason> {
    let malformed = |Malformed| DropReason::CoapMalformed;
    let body = message.get(HEADER_LEN + TOKEN_LEN..);
    let mut options = Options::new(body.ok_or(DropReason::CoapMalformed)?);
    let mut observe = None;
    while let Some((number, value)) = options.next_option().map_err(malformed)? {
        match number {
            OBSERVE if value.len() <= 3 => observe = Some(uint_of(value)),
            _ if number & 1 == 1 && !matches!(number, BLOCK1 | BLOCK2) => {
                return Err(DropReason::CoapOption);
            }
            _ => {}
        }
    }
    let payload = options.payload().map_err(malformed)?;
    Ok((message.len() - payload.len()..message.len(), observe))
}
