//! Every known case, and what shows that it does not work here.

use std::collections::BTreeSet;
use std::path::Path;

/// A hole that some stack had.
struct Attack {
    /// Stack and number of the advisory, or the name of the attack.
    case: &'static str,
    /// What keeps it out.
    rule: &'static str,
    /// Why it cannot be tried, or not as it was; empty when it is tried as it was.
    why_not: &'static str,
    /// The tests that try it, or show what stands in its place: file and function.
    tests: &'static [&'static str],
}

const fn tried(case: &'static str, rule: &'static str, tests: &'static [&'static str]) -> Attack {
    Attack {
        case,
        rule,
        why_not: "",
        tests,
    }
}

const fn cannot_apply(
    case: &'static str,
    rule: &'static str,
    why_not: &'static str,
    tests: &'static [&'static str],
) -> Attack {
    Attack {
        case,
        rule,
        why_not,
        tests,
    }
}

const RECORDS: &[Attack] = &[
    tried(
        "pion CVE-2019-20786, wolfSSL CVE-2020-24585: application data in epoch 0",
        "data only under keys, of a peer whose Finished was right",
        &[
            "tests/attacks/records.rs::application_data_in_the_clear_is_never_data",
            "src/dtls/tests/session.rs::application_data_before_finished_is_dropped",
        ],
    ),
    tried(
        "tinydtls CVE-2021-42141: handshake messages of another epoch",
        "a message counts only in the epoch that its turn is in",
        &[
            "src/dtls/tests/content.rs::messages_of_the_wrong_epoch_are_dropped",
            "tests/attacks/handshake.rs::a_finished_in_the_clear_is_none",
            "tests/attacks/handshake.rs::messages_after_the_end_are_dropped",
        ],
    ),
    tried(
        "tinydtls CVE-2021-42142: one large epoch shuts the peer out",
        "what is not authentic changes nothing",
        &[
            "tests/attacks/records.rs::a_far_epoch_shuts_nobody_out",
            "tests/protocol/hostile.rs::records_of_other_epochs_are_dropped",
        ],
    ),
    tried(
        "tinydtls CVE-2021-42146: epoch and sequence number used again",
        "write numbers only grow; at their end the connection closes",
        &[
            "src/dtls/record/protection/tests.rs::sequence_numbers_end_and_leave_room_for_an_alert",
            "tests/sim/main.rs::what_must_hold_holds_under_every_seed",
        ],
    ),
    tried(
        "OpenSSL CVE-2016-2181: a forged record moves the window",
        "the window moves after the tag was right",
        &[
            "tests/attacks/records.rs::a_forged_record_far_ahead_moves_no_window",
            "src/dtls/record/protection/tests.rs::the_window_moves_only_for_authentic_records",
        ],
    ),
    tried(
        "Replay",
        "a window of 64 records that nobody can switch off",
        &[
            "tests/protocol/hostile.rs::replays_have_no_effect",
            "src/dtls/record/replay.rs::edges_of_the_window",
            "tests/sim/main.rs::what_must_hold_holds_under_every_seed",
        ],
    ),
    tried(
        "pion CVE-2026-26014, wolfSSL CVE-2022-23408: random nonces",
        "the explicit nonce is epoch and sequence number",
        &[
            "src/dtls/record/protection/tests.rs::nonces_follow_the_sequence_number",
            "tests/sim/main.rs::what_must_hold_holds_under_every_seed",
        ],
    ),
    cannot_apply(
        "Restart or clone of a server: nonces used again after old state was loaded",
        "no key or number of a session outlives its process",
        "sessions are kept in memory only; a resumed one has keys of its own",
        &[
            "tests/attacks/records.rs::a_restarted_server_takes_nothing_of_before",
            "tests/protocol/resume.rs::a_ticket_outlives_the_server_and_an_id_does_not",
        ],
    ),
    cannot_apply(
        "Read state out of date after a restore: replay of what came since",
        "no window outlives its process",
        "no window is ever stored",
        &["tests/attacks/records.rs::a_restarted_server_takes_nothing_of_before"],
    ),
    tried(
        "OpenSSL issue 15289: the last flight for anything like a Finished",
        "repeated for the same Finished only, at a limited rate",
        &[
            "src/dtls/tests/session.rs::the_last_flight_is_repeated_for_the_same_finished_only",
            "src/dtls/tests/session.rs::the_last_flight_is_forgotten_in_time",
        ],
    ),
    cannot_apply(
        "Lucky13, CVE-2019-1559: oracles of CBC and MAC",
        "AEAD only",
        "there is no suite with CBC",
        &["tests/attacks/records.rs::no_suite_has_a_mac_of_its_own"],
    ),
    cannot_apply(
        "AWS-LC CVE-2026-3337: tags of CCM compared in variable time",
        "tags are compared in constant time, forgeries are counted",
        "CCM is not AWS-LC's here; what a wrong tag does is tried, the time that it takes is not",
        &[
            "src/crypto/aead/tests.rs::every_flipped_bit_is_refused_and_leaves_no_plaintext",
            "tests/protocol/hostile.rs::forged_records_are_dropped",
        ],
    ),
    tried(
        "CCM_8: forgery of a tag of 64 bits",
        "the connection closes after 2^16 forgeries",
        &[
            "tests/protocol/hostile.rs::forgeries_end_a_session_with_short_tags",
            "src/dtls/record/protection/tests.rs::forgeries_are_counted_and_wear_the_keys_of_short_tags_soonest",
        ],
    ),
    tried(
        "wolfSSL CVE-2020-12457: a flood of ChangeCipherSpec",
        "16 records of a datagram at most; ChangeCipherSpec only in its turn",
        &[
            "tests/attacks/records.rs::change_cipher_specs_out_of_turn_are_ignored",
            "tests/protocol/hostile.rs::records_of_one_datagram_are_limited",
        ],
    ),
];

const HANDSHAKE: &[Attack] = &[
    tried(
        "pion CVE-2022-29189: fragments buffered without bound",
        "a fixed amount per handshake",
        &[
            "tests/attacks/handshake.rs::pieces_without_end_are_not_kept",
            "tests/attacks/handshake.rs::large_messages_ahead_are_not_all_kept",
            "src/dtls/handshake/reassembly.rs::memory_has_its_bounds",
        ],
    ),
    tried(
        "pion CVE-2022-29190, the same in webrtc-rs: fragments of no bytes",
        "no piece of no bytes of a message that has some; no recursion",
        &[
            "tests/attacks/handshake.rs::empty_pieces_are_dropped",
            "src/dtls/message/tests.rs::lengths_of_fragments_are_checked_in_one_place",
        ],
    ),
    tried(
        "GnuTLS work item 1839: fragments joined by type alone",
        "number, type and length of a message all agree, or the piece is dropped",
        &[
            "tests/attacks/handshake.rs::pieces_that_lie_are_dropped",
            "tests/attacks/handshake.rs::lies_between_the_pieces_of_a_message_change_nothing_of_it",
            "src/dtls/handshake/reassembly.rs::a_fragment_that_disagrees_with_its_message_is_dropped",
        ],
    ),
    tried(
        "GnuTLS CVE-2026-42009: order of equal message numbers",
        "a slot per number, nothing is sorted",
        &[
            "tests/attacks/handshake.rs::pieces_that_lie_are_dropped",
            "tests/attacks/handshake.rs::lies_between_the_pieces_of_a_message_change_nothing_of_it",
            "src/dtls/handshake/reassembly.rs::fragments_in_any_order_make_the_messages",
        ],
    ),
    tried(
        "OpenSSL CVE-2014-0195, CVE-2014-3505 to 3507: lengths of fragments believed",
        "offset and length are checked once, in one place",
        &[
            "tests/attacks/handshake.rs::pieces_that_lie_are_dropped",
            "tests/attacks/handshake.rs::lies_between_the_pieces_of_a_message_change_nothing_of_it",
            "src/dtls/message/tests.rs::lengths_of_fragments_are_checked_in_one_place",
        ],
    ),
    tried(
        "OpenSSL CVE-2016-2179: messages out of order kept after the handshake",
        "the handshake's memory goes with its Finished",
        &[
            "tests/attacks/handshake.rs::messages_after_the_end_are_dropped",
            "tests/attacks/handshake.rs::pieces_without_end_are_not_kept",
        ],
    ),
    tried(
        "tinydtls CVE-2021-42143: a ClientHello that is read for ever",
        "every step of a reader takes a byte or ends",
        &[
            "tests/attacks/handshake.rs::every_cut_of_a_hello_is_read_to_its_end",
            "src/dtls/message/tests.rs::no_bytes_make_a_decoder_panic",
        ],
    ),
    tried(
        "tinydtls CVE-2021-42144 and 42147, Mbed TLS CVE-2022-35409, wolfSSL CVE-2024-0901: over-reads",
        "readers that know their length, no unsafe code among them",
        &[
            "tests/attacks/handshake.rs::every_cut_of_a_hello_is_read_to_its_end",
            "tests/tidy/main.rs::unsafe_code_stays_where_it_is_allowed",
        ],
    ),
    tried(
        "Mbed TLS CVE-2022-46393: buffers of one end's connection id length",
        "sizes follow the id that was negotiated",
        &[
            "tests/protocol/connection_id.rs::each_direction_has_the_format_that_its_receiver_asked_for",
            "tests/attacks/denial.rs::an_unknown_connection_id_gets_no_answer",
        ],
    ),
    tried(
        "libcoap CVE-2025-65499, 2023-30362, 2023-35862, 2024-0962, 2024-31031: crashes on certificates and settings",
        "errors are values; nothing of a peer or a file is taken for granted",
        &[
            "src/dtls/tests/content.rs::unreadable_and_unsupported_leaves_are_refused",
            "src/crypto/certificate.rs::no_changed_byte_panics",
            "tests/server/settings.rs::a_wrong_start_names_setting_value_and_remedy",
        ],
    ),
    cannot_apply(
        "OpenSSL CVE-2021-3449: the ClientHello of a renegotiation",
        "renegotiation is declined",
        "there is no renegotiation",
        &[
            "src/dtls/tests/session.rs::renegotiation_is_declined",
            "tests/protocol/foreign.rs::openssl_that_wants_to_renegotiate_is_declined",
        ],
    ),
    tried(
        "Erlang/OTP CVE-2026-55950: ClientHellos in quick succession end all sessions",
        "one owner for each peer; nothing is looked up in one place and changed in another",
        &["tests/attacks/handshake.rs::hellos_from_one_address_disturb_nobody"],
    ),
    tried(
        "OpenSSL issue 32949: race of listeners",
        "as before",
        &["tests/attacks/handshake.rs::hellos_from_one_address_disturb_nobody"],
    ),
];

const AUTHENTICATION: &[Attack] = &[
    tried(
        "JSSE CVE-2020-2655: Certificate and CertificateVerify left out",
        "explicit states; every sequence of messages has one outcome",
        &[
            "src/dtls/tests/order.rs::every_sequence_of_messages_does_what_the_model_says",
            "tests/attacks/authentication.rs::a_certificate_without_its_proof_is_nobody",
        ],
    ),
    tried(
        "pion CVE-2022-29222: a certificate without CertificateVerify",
        "an identity exists after CertificateVerify and Finished",
        &[
            "src/dtls/tests/order.rs::every_sequence_of_messages_does_what_the_model_says",
            "tests/attacks/authentication.rs::a_certificate_without_its_proof_is_nobody",
        ],
    ),
    tried(
        "Chains that prove nothing: the authority's name with another key, a leaf or a wrong key as authority",
        "each certificate's signature, dates, constraints and usage, to the profile's authority",
        &[
            "src/crypto/chain/tests.rs::the_authority_s_name_without_its_key_proves_nothing",
            "src/crypto/chain/tests.rs::a_leaf_is_no_authority",
            "src/crypto/chain/tests.rs::no_authority_signs_longer_chains_than_it_may",
            "src/crypto/chain/tests.rs::dates_of_each_certificate_count",
            "src/crypto/chain/tests.rs::no_changed_bit_is_taken",
            "src/crypto/chain/tests.rs::what_is_critical_has_to_be_understood",
            "tests/server/chain.rs::chains_that_prove_nothing_register_nobody",
        ],
    ),
    tried(
        "Chains of strangers that fill memory",
        "only chains with a wanted authority's name are kept, a bounded number of them",
        &[
            "src/crypto/chain/offered.rs::only_chains_of_wanted_names_are_kept",
            "src/crypto/chain/offered.rs::their_number_is_bounded_and_no_handshake_waits",
            "src/crypto/chain/offered.rs::their_bytes_are_bounded",
        ],
    ),
    tried(
        "Several fingerprints for one certificate: other tags and lengths around its signed part",
        "one encoding of each certificate in a chain",
        &["src/crypto/chain/tests.rs::a_certificate_has_one_encoding"],
    ),
    tried(
        "A stolen key whose certificate was replaced since",
        "a certificate does not take the place of one that was made after it",
        &["tests/server/chain.rs::a_device_registers_itself_and_renews_its_certificate"],
    ),
    tried(
        "wolfSSL CVE-2026-2645: CertificateVerify before ClientKeyExchange",
        "strict order",
        &[
            "src/dtls/tests/order.rs::every_sequence_of_messages_does_what_the_model_says",
            "tests/attacks/authentication.rs::a_certificate_without_its_proof_is_nobody",
        ],
    ),
    tried(
        "wolfSSL CVE-2022-34293: no check that the client can be reached",
        "the cookie is the only door to state",
        &[
            "tests/protocol/hostile.rs::a_cookie_belongs_to_its_address_its_hello_and_its_time",
            "tests/protocol/hostile.rs::noise_at_the_door_makes_neither_state_nor_answers",
            "tests/sim/main.rs::what_must_hold_holds_under_every_seed",
        ],
    ),
    tried(
        "wolfSSL CVE-2026-5194: digest and key of a signature not compared",
        "the hash is the negotiated algorithm's, and that is of the key's kind",
        &[
            "src/crypto/signature/tests.rs::a_scheme_of_another_kind_of_key_is_refused",
            "src/dtls/tests/content.rs::a_certificate_verify_by_another_scheme_is_refused",
        ],
    ),
    tried(
        "wolfSSL CVE-2026-11703: a session resumed under another name",
        "what a session is bound to stays, or the handshake is a full one",
        &[
            "tests/protocol/resume.rs::what_the_client_changed_is_not_resumed",
            "tests/protocol/resume.rs::a_client_that_drops_the_extended_master_secret_is_turned_away",
        ],
    ),
    tried(
        "Mbed TLS 2026: a session resumed with a master secret of zeros",
        "a session is complete and never changes, or it is none",
        &[
            "src/dtls/session/tests.rs::an_incomplete_or_unknown_state_is_no_session",
            "tests/protocol/resume.rs::an_id_alone_is_worth_nothing",
        ],
    ),
    tried(
        "Mbed TLS CVE-2025-27810: a Finished computed wrongly after an error",
        "every error ends the handshake; no digest is zero by default",
        &["src/dtls/tests/content.rs::a_wrong_finished_is_refused"],
    ),
    tried(
        "GnuTLS CVE-2020-13777: tickets sealed under a key of zeros",
        "no key that was not drawn",
        &[
            "src/crypto/sealing.rs::a_secret_that_was_never_drawn_is_refused",
            "tests/protocol/resume.rs::an_old_key_opens_and_a_removed_one_does_not",
        ],
    ),
    tried(
        "Erlang/OTP CVE-2026-54887: cookies under an empty secret at first",
        "no secret that was not drawn; it is there before the socket",
        &["src/dtls/cookie.rs::a_secret_that_was_never_drawn_is_refused"],
    ),
    tried(
        "Californium CVE-2020-27222: a failed certificate handshake that sticks",
        "a handshake owns all of its state and is dropped as one",
        &["tests/attacks/authentication.rs::a_failed_certificate_handshake_leaves_nothing_behind"],
    ),
    tried(
        "Californium CVE-2021-34433: a client that needs no signature of the server",
        "the suite says which messages must come",
        &["tests/attacks/authentication.rs::a_server_without_a_signed_key_exchange_is_refused"],
    ),
    tried(
        "Californium CVE-2022-2576: from resumption to a full handshake without a cookie",
        "a cookie always",
        &["tests/attacks/authentication.rs::a_session_to_resume_is_no_cookie"],
    ),
    tried(
        "Californium CVE-2022-39368: failing handshakes that stay counted",
        "what is counted is given back, however it ends",
        &[
            "tests/attacks/authentication.rs::failing_handshakes_give_everything_back",
            "tests/sim/main.rs::what_must_hold_holds_under_every_seed",
        ],
    ),
    cannot_apply(
        "GnuTLS CVE-2026-3833: name constraints compared with case",
        "no path is built",
        "a device is known by its leaf's fingerprint; names and issuers decide nothing",
        &["src/dtls/tests/content.rs::only_the_leaf_counts"],
    ),
    tried(
        "ex_webrtc GHSA-qwfw-ggxw-577c: a fingerprint not compared after an empty flight",
        "one place makes an identity",
        &[
            "tests/attacks/authentication.rs::a_certificate_without_its_proof_is_nobody",
            "tests/server/lifecycle.rs::two_devices_one_after_the_other_from_one_port_are_told_apart",
        ],
    ),
    tried(
        "Triple handshake, 3Shake: sessions without the extended master secret",
        "it can be required, and without it nothing is resumed",
        &[
            "tests/protocol/suites.rs::the_extended_master_secret_can_be_required",
            "tests/protocol/resume.rs::a_session_without_extended_master_secret_is_not_kept",
        ],
    ),
    cannot_apply(
        "RFC 5746 (2009): a renegotiation spliced into a session",
        "renegotiation_info is empty, renegotiation declined",
        "there is no renegotiation",
        &[
            "src/dtls/message/tests.rs::renegotiation_info_of_a_first_handshake_is_empty",
            "src/dtls/tests/session.rs::renegotiation_is_declined",
        ],
    ),
    tried(
        "SLOTH: MD5 and SHA-1 sign the handshake",
        "SHA-256 and longer",
        &["tests/attacks/authentication.rs::weak_hashes_sign_nothing"],
    ),
    tried(
        "A session that outlives its certificate or credential",
        "the end of a credential ends its sessions",
        &[
            "src/endpoint/tests/revocation.rs::the_sessions_of_a_removed_device_end_and_no_others",
            "tests/protocol/resume.rs::a_session_does_not_outlive_the_certificate",
            "tests/protocol/resume.rs::the_session_of_a_revoked_identity_is_not_resumed",
            "tests/sim/main.rs::what_must_hold_holds_under_every_seed",
        ],
    ),
    tried(
        "Invalid curve, as in BouncyCastle CVE-2015-7940",
        "a point that is not on the curve ends the handshake",
        &[
            "src/dtls/tests/content.rs::invalid_points_are_refused",
            "src/crypto/key_exchange.rs::invalid_points_are_refused",
            "src/crypto/key_exchange.rs::x25519_small_order_points_are_refused",
        ],
    ),
    tried(
        "Java CVE-2022-21449: a signature of zeros",
        "numbers out of range verify nothing",
        &[
            "src/dtls/tests/content.rs::a_signature_of_zeros_is_refused",
            "src/crypto/signature/tests.rs::ecdsa_numbers_out_of_range_are_refused",
        ],
    ),
    tried(
        "OpenSSL CVE-2022-0778: explicit curve parameters",
        "named curves only",
        &["src/crypto/signature/tests.rs::explicit_parameters_are_refused"],
    ),
    cannot_apply(
        "OpenSSL CVE-2024-13176: the time that ECDSA's nonce takes",
        "no ECDSA of our own",
        "AWS-LC signs; what it takes is not measured here",
        &["tests/attacks/authentication.rs::nobody_else_signs"],
    ),
    tried(
        "Identities of pre-shared keys told apart by the answer",
        "an unknown identity takes the way of a wrong key",
        &[
            "tests/protocol/psk.rs::an_unknown_identity_is_a_wrong_key",
            "src/endpoint/tests/credentials.rs::an_unknown_identity_ends_at_its_finished_and_is_forgotten",
        ],
    ),
];

const DENIAL: &[Attack] = &[
    tried(
        "Citrix ADC (2020): amplification by the server's flight",
        "a cookie before any flight, in an answer no longer than its question",
        &[
            "tests/attacks/denial.rs::a_hello_without_a_cookie_is_no_amplifier",
            "tests/sim/main.rs::what_must_hold_holds_under_every_seed",
        ],
    ),
    tried(
        "Enable Security (2024): the first ClientHello of any source takes the place",
        "a hello without a cookie takes no place, one with a cookie a place beside the session",
        &[
            "tests/attacks/denial.rs::a_stranger_s_hello_locks_nobody_out",
            "tests/protocol/hostile.rs::a_client_that_starts_over_in_mid_handshake_gets_in",
        ],
    ),
    tried(
        "Mbed TLS (2020, reuse of ports): a forged ClientHello drops a live session",
        "the session stays until the new Finished was right",
        &["tests/protocol/hostile.rs::a_new_handshake_replaces_a_session_only_once_it_is_proven"],
    ),
    tried(
        "A flood of alerts in the clear",
        "of no effect on a session, a hint to a handshake",
        &["tests/protocol/hostile.rs::alerts_in_the_clear_end_nothing"],
    ),
    tried(
        "A close_notify made up or recorded",
        "only under the keys, and once",
        &["tests/protocol/hostile.rs::a_close_notify_of_an_old_session_does_not_end_the_new_one"],
    ),
    tried(
        "A storm of handshakes after an outage",
        "a budget of handshakes; established peers first; beyond it a ClientHello is dropped",
        &[
            "tests/attacks/denial.rs::a_storm_of_handshakes_leaves_sessions_alone",
            "tests/protocol/hostile.rs::a_spent_budget_delays_handshakes_and_nothing_else",
        ],
    ),
    tried(
        "Handshakes begun from real addresses and left, so that their places stay taken",
        "the oldest gives way; places and memory have a budget, and from half of them on an address its share",
        &[
            "src/endpoint/tests/half_open.rs::handshakes_that_were_left_keep_nobody_out",
            "src/endpoint/tests/half_open.rs::an_address_that_begins_many_gets_not_all_places",
            "src/endpoint/tests/half_open.rs::the_memory_of_handshakes_has_a_budget",
        ],
    ),
    tried(
        "Sessions of strangers that fill the table and are never used",
        "who has shown nothing for himself gives way, a device never",
        &["src/endpoint/tests/unproven.rs::sessions_that_strangers_never_use_keep_no_device_out"],
    ),
    tried(
        "A slow authenticator, as ThingsBoard's latch of 10 s",
        "bounded queues and permits; no shard waits",
        &[
            "tests/attacks/denial.rs::a_slow_authenticator_blocks_nobody",
            "src/endpoint/tests.rs::beyond_the_permits_a_request_is_answered_5_03_with_max_age",
        ],
    ),
    tried(
        "A record of a victim sent from elsewhere moves its session's address",
        "the address moves for a newer authentic record only, and is confirmed",
        &[
            "tests/attacks/denial.rs::a_record_from_elsewhere_moves_nothing",
            "src/endpoint/tests/connection_id.rs::a_replayed_an_old_or_a_forged_record_moves_nobody",
            "src/endpoint/tests/connection_id.rs::a_victim_that_cannot_answer_is_left_alone",
            "src/endpoint/tests/connection_id.rs::a_handshake_at_an_unconfirmed_address_leaves_the_moved_session_alone",
            "src/endpoint/tests/connection_id.rs::nobody_takes_a_handshake_along_from_an_address_that_he_forged",
            "src/endpoint/tests/connection_id.rs::a_finished_from_elsewhere_proves_no_address",
            "src/endpoint/tests/connection_id.rs::a_goodbye_stays_within_the_limit_of_an_unconfirmed_address",
            "src/endpoint/tests/connection_id.rs::an_address_that_is_not_confirmed_gets_three_times_what_came_from_it",
        ],
    ),
    tried(
        "Guessing of connection ids",
        "an id that nobody has gets no answer",
        &[
            "tests/attacks/denial.rs::an_unknown_connection_id_gets_no_answer",
            "src/endpoint/tests/connection_id.rs::an_unknown_id_is_never_answered",
        ],
    ),
    tried(
        "draft-irtf-t2trg-amplification-attacks: CoAP answers to forged addresses",
        "without a token one short answer to one message; with one an Echo first, if the operator wants it",
        &[
            "tests/attacks/denial.rs::a_plain_answer_is_no_amplifier",
            "tests/attacks/denial.rs::an_observation_without_a_token_is_not_registered",
            "tests/server/amplification.rs::strangers_get_no_more_than_three_times_what_they_send",
            "tests/server/amplification.rs::a_device_repeats_an_echo_if_the_operator_wants_it",
        ],
    ),
    cannot_apply(
        "Requests delayed or reordered by somebody on the path",
        "a reading carries its own time; a record counts once",
        "no request of a device makes anything move: readings are stored each by itself and calls are numbered. \
         A late write of an attribute is one of DTLS without order, which the peer's own order does not survive either",
        &["tests/protocol/hostile.rs::replays_have_no_effect"],
    ),
    tried(
        "A token used again in another security context",
        "an exchange belongs to its session; a new session ends the old one's",
        &["tests/attacks/denial.rs::an_answer_of_the_session_before_goes_to_nobody"],
    ),
    tried(
        "247 s of Message IDs to remember",
        "64 of a peer; the oldest answered one goes first",
        &[
            "src/coap/tests/deduplication.rs::the_oldest_answered_request_gives_way_to_the_65th",
            "src/coap/tests/property.rs::nothing_panics_and_nothing_grows",
        ],
    ),
    tried(
        "Block1: bodies of 256 MiB gathered in memory",
        "a cap per session and per shard, where those who do not go on give way; who says that there is too much is refused at once",
        &[
            "src/coap/tests/block.rs::an_upload_that_is_too_long_is_refused_early",
            "src/coap/tests/block.rs::uploads_are_given_up_and_stay_within_the_budget",
            "src/endpoint/tests/bodies.rs::strangers_who_leave_their_uploads_keep_nobody_from_uploading",
        ],
    ),
    tried(
        "RIOT GHSA-p9hp-2jxm-6rqp and CVE-2026-27703, libcoap: tokens and options longer than they may be",
        "a token of more than eight bytes is a format error; answers go to bounded buffers",
        &[
            "src/coap/tests/codec.rs::long_or_cut_tokens_are_format_errors",
            "src/coap/tests/codec.rs::broken_options_are_format_errors",
            "src/coap/tests/property.rs::nothing_panics_and_nothing_grows",
        ],
    ),
    tried(
        "Mbed TLS' notice: state that was serialised and tampered with",
        "sealed, with its version; what does not open is none",
        &[
            "tests/protocol/resume.rs::a_tampered_or_truncated_ticket_is_refused",
            "src/dtls/session/tests.rs::a_ticket_that_was_changed_or_cut_is_refused",
        ],
    ),
    tried(
        "Logs and labels of metrics flooded with what peers choose",
        "labels come from tables; log lines about peers are limited",
        &[
            "src/metrics/tests.rs::every_counter_is_exported_once",
            "tests/attacks/denial.rs::notes_about_peers_are_few",
        ],
    ),
    tried(
        "A path that swallows large datagrams, so that flights never arrive",
        "smaller datagrams after a while, and an end of each handshake",
        &[
            "tests/protocol/fragments.rs::a_path_that_swallows_large_datagrams_is_survived",
            "tests/protocol/faults.rs::a_silent_client_is_given_up",
        ],
    ),
];

fn all() -> impl Iterator<Item = &'static Attack> {
    [RECORDS, HANDSHAKE, AUTHENTICATION, DENIAL]
        .into_iter()
        .flatten()
}

/// The functions of a source file under `#[test]`.
fn tests_of(source: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if let Some(function) = line.strip_prefix("fn ")
            && std::mem::take(&mut is_test)
        {
            names.extend(function.split(['(', '<']).next());
        }
    }
    names
}

#[test]
fn every_case_has_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cases = BTreeSet::new();
    for attack in all() {
        assert!(cases.insert(attack.case), "{} is listed twice", attack.case);
        assert!(
            !attack.rule.is_empty() && !attack.tests.is_empty(),
            "{}",
            attack.case
        );
        for test in attack.tests {
            let (file, function) = test.split_once("::").expect("a file and a function");
            let source = std::fs::read_to_string(root.join(file));
            let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(
                tests_of(&source).contains(function),
                "{}: there is no test {test}",
                attack.case
            );
        }
    }
    let replayed = all().filter(|attack| attack.why_not.is_empty()).count();
    println!("{} cases, {replayed} of them replayed", cases.len());
}

/// No test of this target without a case: a rule that nobody can break any more is no rule.
#[test]
fn every_test_here_belongs_to_a_case() {
    let sources = [
        ("records", include_str!("records.rs")),
        ("handshake", include_str!("handshake.rs")),
        ("authentication", include_str!("authentication.rs")),
        ("denial", include_str!("denial.rs")),
    ];
    let named: BTreeSet<&str> = all().flat_map(|attack| attack.tests).copied().collect();
    for (file, source) in sources {
        for function in tests_of(source) {
            let name = format!("tests/attacks/{file}.rs::{function}");
            assert!(named.contains(name.as_str()), "{name} is in no case");
        }
    }
}
