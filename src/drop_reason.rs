//! Why a datagram, record or message was discarded: each reason is the index of a counter.
//!
//! A drop is the usual fate of bad input over UDP (RFC 6347 section 4.1.2.7), so it is counted and
//! never logged under load.

macro_rules! drop_reasons {
    ($($(#[doc = $text:literal])+ $variant:ident = $label:literal,)+) => {
        /// Why input was discarded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum DropReason {
            $($(#[doc = $text])+ $variant,)+
        }

        impl DropReason {
            /// All reasons, in the order of their indices.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value of the `reason` label in the metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than a record header, or a record longer than its datagram.
    RecordMalformed = "record_malformed",
    /// Not DTLS 1.0 (first flight only) or 1.2.
    RecordVersion = "record_version",
    /// Content type unknown or not expected here.
    RecordType = "record_type",
    /// Epoch without keys.
    RecordEpoch = "record_epoch",
    /// Sequence number seen before or left of the window.
    RecordReplayed = "record_replayed",
    /// The tag did not verify.
    RecordForged = "record_forged",
    /// Of a session under attack, and numbered as no next record of the peer would be.
    RecordImplausible = "record_implausible",
    /// More records in one datagram than the cap allows.
    RecordsPerDatagram = "records_per_datagram",
    /// A record without the connection id that was agreed on, or with one that was not (RFC 9146
    /// section 3).
    ConnectionIdMissing = "connection_id_missing",
    /// A connection id that is nobody's; never answered.
    ConnectionIdUnknown = "connection_id_unknown",
    /// A connection id of another node.
    ConnectionIdNode = "connection_id_node",
    /// More than three times what came from an address that is not confirmed would have gone there
    /// (RFC 9853 section 5).
    PathLimit = "path_limit",
    /// Application data before the handshake was proven.
    EarlyApplicationData = "early_application_data",
    /// No session for the sender, and not a ClientHello.
    NoSession = "no_session",
    /// A ClientHello that cannot be read.
    ClientHelloMalformed = "client_hello_malformed",
    /// A ClientHello spread over several datagrams before its cookie was known.
    ClientHelloFragmented = "client_hello_fragmented",
    /// A cookie that is not ours, or too old; a new one was sent.
    CookieInvalid = "cookie_invalid",
    /// A handshake fragment that does not fit what is known of its message.
    FragmentMalformed = "fragment_malformed",
    /// A handshake message too far ahead, or larger than the cap.
    FragmentBeyondLimit = "fragment_beyond_limit",
    /// A handshake message that was complete already.
    FragmentRepeated = "fragment_repeated",
    /// An alert without protection, of no effect.
    AlertUnauthenticated = "alert_unauthenticated",
    /// The budget of half-open handshakes is spent.
    HandshakeBudget = "handshake_budget",
    /// ClientHellos come faster than they can be answered.
    HelloVerifyBudget = "hello_verify_budget",
    /// Others wait, and this address starts more handshakes than its share.
    AddressLimit = "address_limit",
    /// The session table is full.
    SessionBudget = "session_budget",
    /// A CoAP message whose header or options cannot be read (RFC 7252 section 3).
    CoapMalformed = "coap_malformed",
    /// A CoAP version other than 1.
    CoapVersion = "coap_version",
    /// An acknowledgement or reset that matches no message of ours.
    CoapUnmatched = "coap_unmatched",
    /// A code that is neither a request, a response to us, nor empty.
    CoapCode = "coap_code",
    /// A repetition of a message; what it was answered before was sent again.
    CoapDuplicate = "coap_duplicate",
    /// The peer has as many requests in work as it may; where it could be, it was answered 5.03.
    CoapPeerBusy = "coap_peer_busy",
    /// A NON request with a critical option that is not known (RFC 7252 section 5.4.1).
    CoapOption = "coap_option",
    /// An answer of ours too long to send, or of no response code; 5.00 was sent.
    CoapAnswerUnfit = "coap_answer_unfit",
    /// No Message ID was free for an answer of ours (RFC 7252 section 4.4).
    CoapMessageIds = "coap_message_ids",
    /// A verdict for a peer or exchange that is gone.
    VerdictStale = "verdict_stale",
    /// As many look-ups of pre-shared keys are in work as may be; the client will repeat its flight.
    CredentialLookupBudget = "credential_lookup_budget",
    /// A notification for a relation that is over, or whose last one is on the way.
    NotificationStale = "notification_stale",
    /// A notification beyond what may wait for one relation, which ended it.
    NotificationOverflow = "notification_overflow",
    /// A datagram for another shard, whose queue for such was full.
    HandoverQueueFull = "handover_queue_full",
    /// A datagram for a shard that does not exist, or that two shards hold the other for its owner.
    HandoverAstray = "handover_astray",
    /// The kernel cut the datagram at our buffer.
    DatagramTruncated = "datagram_truncated",
    /// The kernel did not take a datagram of ours.
    SendFailed = "send_failed",
    /// Handling the datagram panicked: a defect of ours, contained.
    Panicked = "panicked",
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn indices_and_labels_are_one_to_one() {
        let labels: BTreeSet<_> = DropReason::ALL
            .iter()
            .map(|reason| reason.label())
            .collect();
        assert_eq!(labels.len(), DropReason::ALL.len());
        assert!(
            DropReason::ALL
                .iter()
                .enumerate()
                .all(|(index, &reason)| reason as usize == index)
        );
    }
}
