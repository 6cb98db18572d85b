//! Attacks on the record layer and its epochs.

use std::sync::Arc;

use tidegate::crypto::aead::AeadAlgorithm;
use tidegate::crypto::suite::CipherSuite;
use tidegate::drop_reason::DropReason;
use tidegate::dtls::Error;
use tidegate::dtls::client::ClientConfig;
use tidegate::endpoint::Port;

use crate::link::{PEER, World};
use crate::site::{Site, address, post};
use crate::support::server_config;
use crate::wire::{assert_alive, change_messages, plain, relay};

fn world() -> World {
    World::new(1, server_config(), &Arc::new(ClientConfig::default()))
}

/// pion CVE-2019-20786, wolfSSL CVE-2020-24585: data in the clear is never data, whether there is no
/// handshake yet, one under way, or a session.
#[test]
fn application_data_in_the_clear_is_never_data() {
    let mut world = world();
    let data = plain(23, 0, 7, b"reading");
    assert!(world.deliver_from(PEER, data.clone()).is_empty());
    assert!(world.server.association.is_none());
    while !world.server.is_established() {
        assert!(world.deliver_from(PEER, data.clone()).is_empty());
        // In epoch 1 without its keys, too.
        assert!(
            world
                .deliver_from(PEER, plain(23, 1, 7, b"reading"))
                .is_empty()
        );
        assert!(world.step());
    }
    assert!(world.establish());
    world.deliver_from(PEER, data);
    assert!(world.server.readings.is_empty());
    assert_alive(&mut world);
}

/// tinydtls CVE-2021-42142, OpenSSL CVE-2016-2181: records of epochs that nobody can send yet, with
/// numbers as large as they get, change nothing for those that follow.
#[test]
fn a_far_epoch_shuts_nobody_out() {
    let mut world = world();
    let mut sent = 0;
    while !world.server.is_established() {
        for epoch in [1, 2, 3, u16::MAX] {
            for content_type in [20, 21, 22, 23] {
                let far = plain(content_type, epoch, (1 << 48) - 1, &[1; 40]);
                world.deliver_from(PEER, far);
                sent += 1;
            }
        }
        assert!(world.step(), "the handshake stands still");
    }
    assert!(sent > 50);
    assert!(world.establish());
    world.settle();
    for epoch in [2, 3, u16::MAX] {
        let mut far = world.client.seal(b"far");
        far[3..5].copy_from_slice(&epoch.to_be_bytes());
        let before = world.server.dropped(DropReason::RecordEpoch);
        assert!(world.deliver_from(PEER, far).is_empty());
        assert_eq!(world.server.dropped(DropReason::RecordEpoch), before + 1);
    }
    assert_alive(&mut world);
}

/// OpenSSL CVE-2016-2181: the window moves for what is authentic only.
#[test]
fn a_forged_record_far_ahead_moves_no_window() {
    let mut world = world();
    assert!(world.establish());
    world.settle();
    let late = world.client.seal(b"late");
    let mut forged = world.client.seal(b"forged");
    forged[5..11].copy_from_slice(&[0, 0, 0, 1, 0, 0]);
    world.deliver_from(PEER, forged);
    assert_eq!(world.server.dropped(DropReason::RecordForged), 1);
    world.deliver_from(PEER, late);
    assert_eq!(world.server.readings.len(), 1);
}

/// wolfSSL CVE-2020-12457: ChangeCipherSpecs at any other time than theirs are ignored, however many.
#[test]
fn change_cipher_specs_out_of_turn_are_ignored() {
    let mut world = world();
    // Of these, 16 are looked at; the first in its turn counts, and none after it.
    let flood = plain(20, 0, 3, &[1]).repeat(90);
    let mut floods = 0;
    while !world.server.is_established() {
        let is_handshaking = world.server.association.is_some();
        floods += usize::from(is_handshaking);
        world.deliver_from(PEER, flood.clone());
        assert!(world.step(), "the handshake stands still");
    }
    assert!(floods > 0);
    let ignored = world.server.dropped(DropReason::RecordType);
    assert!(ignored >= 16 * floods - 1, "{ignored} of {floods} floods");
    assert!(world.establish());
    for _ in 0..1000 {
        assert!(world.deliver_from(PEER, flood.clone()).is_empty());
    }
    assert_alive(&mut world);
}

/// Lucky13, CVE-2019-1559: there is no suite with a MAC of its own, and a client that offers only
/// such ones is told so.
#[test]
fn no_suite_has_a_mac_of_its_own() {
    for suite in CipherSuite::ALL {
        // Exhaustive: another kind of AEAD does not compile without a look at this test.
        match suite.aead() {
            AeadAlgorithm::Aes128Gcm
            | AeadAlgorithm::Aes256Gcm
            | AeadAlgorithm::ChaCha20Poly1305
            | AeadAlgorithm::Aes128Ccm
            | AeadAlgorithm::Aes256Ccm
            | AeadAlgorithm::Aes128Ccm8
            | AeadAlgorithm::Aes256Ccm8 => {}
        }
    }
    let config = ClientConfig {
        cipher_suites: vec![CipherSuite::EcdheEcdsaAes128Gcm],
        ..ClientConfig::default()
    };
    let mut world = World::new(1, server_config(), &Arc::new(config));
    relay(&mut world, |by_server, datagram| {
        if by_server {
            return vec![datagram];
        }
        // TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA in place of the one suite.
        vec![change_messages(&datagram, |mut hello| {
            let at = hello.body.windows(2).position(|w| w == [0xc0, 0x2b]);
            hello.body[at.expect("the suite") + 1] = 0x09;
            Some(hello)
        })]
    });
    assert_eq!(world.server.failures, [Error::NoCommonParameters]);
    assert!(world.server.association.is_none());
}

/// Restart or clone of a server: nothing of a session's keys, numbers or window is kept anywhere, so
/// there is nothing to load twice. What was recorded before the restart finds nobody.
#[test]
fn a_restarted_server_takes_nothing_of_before() {
    let mut before = Site::new(|_| ());
    let mut visitor = before.visit(address(5), &Arc::new(ClientConfig::default()));
    let reading = visitor.seal(&post(1));
    assert_eq!(before.deliver(address(5), Port::Secure, &reading), []);
    assert_eq!(before.requests.len(), 1);

    let mut after = Site::new(|_| ());
    let recorded = visitor.sent.iter().chain([&reading]);
    for datagram in recorded.skip(2) {
        assert_eq!(after.deliver(address(5), Port::Secure, datagram), []);
    }
    assert!(after.requests.is_empty());
}
