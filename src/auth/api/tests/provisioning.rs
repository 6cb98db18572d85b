//! Vector 13, and the rest of TB section 7.6.

use super::*;
use crate::auth::api::proto::{
    CredentialsData, CredentialsType, ProvisionCredentials, ProvisionRequest, TokenData, X509Data,
};
use crate::crypto::fingerprint::to_hex;
use crate::registry::profile::{ProfileSettings, Strategy};
use crate::registry::{Credential, Registry as _};
use prost::Message as _;

const PROVISION: &str = "/api/v1/provision";
const NOT_FOUND: &str = r#"{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}"#;
const FAILURE: &str = r#"{"errorMsg":"Failed to provision device!","status":"FAILURE"}"#;

impl Bench {
    fn allow(&self, profile: &str, key: &str, strategy: Strategy) {
        let mut settings = ProfileSettings::default();
        settings.provisioning.strategy = strategy;
        settings.provisioning.key = Some(key.into());
        settings.provisioning.secret = Some("s".into());
        self.opened.registry.add_profile(profile, settings).unwrap();
    }

    /// Code, Content-Format and body.
    fn provision(&self, body: impl AsRef<[u8]>) -> (String, Option<u16>, Vec<u8>) {
        let mut asked = request(POST, PROVISION, "");
        asked.message = asked.message.with_payload(body);
        let answer = self.answer(&asked);
        (
            code_text(answer.code),
            answer.content_format,
            answer.payload,
        )
    }

    #[track_caller]
    fn provisions(&self, body: &str, code: &str, expected: &str) {
        let (found, format, payload) = self.provision(body);
        let text = String::from_utf8(payload).unwrap();
        assert_eq!((&*found, &*text), (code, expected), "{body}");
        let expected_format = (!expected.is_empty()).then_some(0);
        assert_eq!(format, expected_format, "{body}");
    }
}

fn body(rest: &str) -> String {
    format!(r#"{{"provisionDeviceKey":"k","provisionDeviceSecret":"s"{rest}}}"#)
}

#[test]
fn vector_13_provisioning() {
    let bench = Bench::new();
    // Nobody's key, on both paths.
    bench.provisions(&body(""), "4.00", NOT_FOUND);
    let elsewhere = bench.answer(&request(POST, "/api/v1/anything/provision", &body("")));
    assert_eq!(
        (elsewhere.code, &*elsewhere.payload),
        (0x80, NOT_FOUND.as_bytes())
    );
    bench.provisions("{}", "4.00", "");
    assert_eq!(bench.provision(""), ("4.00".into(), None, vec![8, 2]));

    bench.allow("meter", "k", Strategy::AllowCreateNewDevices);
    let own = r#","deviceName":"m1","credentialsType":"ACCESS_TOKEN","token":"test_token""#;
    bench.provisions(
        &body(own),
        "2.01",
        r#"{"credentialsValue":"test_token","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}"#,
    );
    bench.provisions(&body(own), "4.00", FAILURE);
    // The very next request is the device's.
    assert_eq!(bench.post("/api/v1/test_token/telemetry", "{a:1}"), "2.01");
    let device = bench.opened.registry.device_by_name("m1").unwrap();
    assert_eq!(&*device.profile, "meter");
    let scope = AttributeScope::Server;
    let state = bench
        .opened
        .store
        .attributes(device.id, scope, None)
        .unwrap();
    assert_eq!(&*state[0].key, "provisionState");
    assert_eq!(state[0].value, Value::String("provisioned".into()));

    // Despite its name the hash is the text of a certificate, which is hashed (TB section 4).
    let hash = r#","deviceName":"m2","credentialsType":"X509_CERTIFICATE","hash":"testHash""#;
    bench.provisions(
        &body(hash),
        "2.01",
        r#"{"credentialsValue":"testHash","credentialsType":"X509_CERTIFICATE","status":"SUCCESS"}"#,
    );
    let device = bench.opened.registry.device_by_name("m2").unwrap();
    let Credential::X509 { fingerprint } = device.credential else {
        panic!("{device:?}");
    };
    assert_eq!(
        to_hex(&fingerprint),
        "57f6600424d6553263f1f32e0117012894a36fbf07e3e9c3c556272f86b7d985"
    );
    // In PEM form it is the credential of a device that proves its key.
    let pem = r#","deviceName":"m3","credentialsType":"X509_CERTIFICATE","hash":"-----BEGIN CERTIFICATE-----\nCQkJ\r\nCQ==\n-----END CERTIFICATE-----\n""#;
    assert_eq!(bench.provision(body(pem)).0, "2.01");
    let posted = request(POST, "/api/v1/telemetry", "{a:1}");
    assert_eq!(bench.code(&secure(Some(&[9; 4]), posted)), "2.01");
}

#[test]
fn what_is_asked_for_and_what_is_not() {
    let bench = Bench::new();
    bench.allow("meter", "k", Strategy::AllowCreateNewDevices);
    for (wrong, code, answer) in [
        (r#"{"provisionDeviceKey":"k"}"#, "4.00", ""),
        (r#"{"provisionDeviceSecret":"s"}"#, "4.00", ""),
        (
            r#"{"provisionDeviceKey":{},"provisionDeviceSecret":"s"}"#,
            "4.00",
            "",
        ),
        (
            r#"{"provisionDeviceKey":"k","provisionDeviceSecret":"S"}"#,
            "4.00",
            NOT_FOUND,
        ),
        (
            r#"{"provisionDeviceKey":"K","provisionDeviceSecret":"s"}"#,
            "4.00",
            NOT_FOUND,
        ),
        ("[]", "4.00", ""),
        ("5", "4.00", ""),
        ("{", "4.00", ""),
    ] {
        bench.provisions(wrong, code, answer);
    }
    for (rest, answer) in [
        (r#","credentialsType":"LWM2M_CREDENTIALS""#, ""),
        (r#","deviceName":" ""#, FAILURE),
        (r#","deviceName":"token""#, FAILURE),
        (
            r#","deviceName":"n","credentialsType":"ACCESS_TOKEN","token":"ACCESS01""#,
            FAILURE,
        ),
        (
            r#","deviceName":"n","credentialsType":"ACCESS_TOKEN","token":"a b""#,
            FAILURE,
        ),
    ] {
        bench.provisions(&body(rest), "4.00", answer);
    }
    assert!(bench.opened.registry.device_by_name("n").is_none());
    // Without a name or a token both are made at random.
    let (code, _, payload) = bench.provision(body(r#","gateway":true"#));
    assert_eq!(code, "2.01");
    let answer: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    let token = answer["credentialsValue"].as_str().unwrap();
    assert_eq!(token.len(), 20);
    let device = bench.opened.registry.device_by_token(token).unwrap();
    assert_eq!(device.name.len(), 20);
    // Credentials of a type count only when they are there.
    for kind in ["ACCESS_TOKEN", "X509_CERTIFICATE"] {
        let (code, _, payload) = bench.provision(body(&format!(r#","credentialsType":"{kind}""#)));
        assert_eq!(code, "2.01");
        let answer: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(answer["credentialsType"], "ACCESS_TOKEN");
    }
    // A name is trimmed.
    let trimmed = bench.provision(body(r#","deviceName":" trimmed ""#));
    assert_eq!(trimmed.0, "2.01");
    assert!(bench.opened.registry.device_by_name("trimmed").is_some());
    // Switched off.
    let off = |settings: &ProfileSettings| {
        let mut settings = settings.clone();
        settings.provisioning.strategy = Strategy::Disabled;
        Ok(settings)
    };
    bench
        .opened
        .registry
        .change_profile("meter", &mut { off })
        .unwrap();
    bench.provisions(&body(""), "4.00", NOT_FOUND);
}

#[test]
fn a_device_that_is_there_fetches_its_credentials_once() {
    let bench = Bench::new();
    bench.allow("pre", "k", Strategy::CheckPreProvisionedDevices);
    let add = |name: &str, profile: &str, credential| {
        let (name, profile) = (name.into(), Some(profile.into()));
        let new = NewDevice {
            name,
            profile,
            credential,
        };
        bench.opened.registry.add(new).unwrap()
    };
    add("p1", "pre", NewCredential::AccessToken("P1".into()));
    add("p2", "pre", NewCredential::Certificate(vec![1, 2, 3]));
    add("other", "default", NewCredential::AccessToken("O".into()));
    for name in ["missing", "other"] {
        bench.provisions(
            &body(&format!(r#","deviceName":"{name}""#)),
            "4.00",
            FAILURE,
        );
    }
    // What it asks for does not change what it has.
    let asked = r#","deviceName":"p1","credentialsType":"ACCESS_TOKEN","token":"mine""#;
    let given = r#"{"credentialsValue":"P1","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}"#;
    bench.provisions(&body(asked), "2.01", given);
    bench.provisions(&body(asked), "4.00", FAILURE);
    bench.provisions(
        &body(r#","deviceName":"p2""#),
        "2.01",
        r#"{"credentialsValue":"AQID","credentialsType":"X509_CERTIFICATE","status":"SUCCESS"}"#,
    );
    // Once more, when the operator says so.
    let again = bench.opened.registry.change_options("p1", &mut |options| {
        options.provisioned = false;
        Ok(())
    });
    again.unwrap();
    bench.provisions(&body(asked), "2.01", given);
}

#[test]
fn credentials_of_mqtt_are_kept_and_open_nothing_here() {
    let bench = Bench::new();
    bench.allow("meter", "k", Strategy::AllowCreateNewDevices);
    let asked = |name: &str, rest: &str| {
        let kind = format!(r#","deviceName":"{name}","credentialsType":"MQTT_BASIC"{rest}"#);
        body(&kind)
    };
    let own = r#","clientId":"c\"1","username":"u","password":"p""#;
    bench.provisions(
        &asked("m1", own),
        "2.01",
        r#"{"credentialsValue":{"clientId":"c\"1","userName":"u","password":"p"},"credentialsType":"MQTT_BASIC","status":"SUCCESS"}"#,
    );
    bench.provisions(&asked("m2", own), "4.00", FAILURE);
    bench.provisions(&asked("m3", r#","password":"p""#), "4.00", FAILURE);
    let (code, _, token) = bench.provision(asked("m4", ""));
    assert_eq!(code, "2.01");
    assert!(String::from_utf8(token).unwrap().contains("ACCESS_TOKEN"));
    // TB section 4.2: none of it is an access token.
    for token in ["u", "p", "c\"1", "c\"1|u"] {
        let uploads = format!("/api/v1/{token}/telemetry");
        assert_eq!(bench.post(&uploads, "{a:1}"), "4.01", "{token}");
    }
    // The client id is free again with the device.
    bench.opened.registry.remove("m1").unwrap();
    assert_eq!(bench.provision(asked("m2", own)).0, "2.01");
    let device = bench.opened.registry.device_by_name("m2").unwrap();
    assert!(
        !format!("{device:?}").contains("\"p\""),
        "a password is not for logs"
    );
}

#[test]
fn protobuf_is_read_where_json_is_not() {
    let bench = Bench::new();
    let mut asked = ProvisionRequest {
        device_name: "pb".into(),
        credentials: Some(ProvisionCredentials {
            key: "k".into(),
            secret: "s".into(),
        }),
        credentials_data: Some(CredentialsData {
            token: Some(TokenData { token: "PB".into() }),
            x509: Some(X509Data {
                hash: "CQ==".into(),
            }),
            mqtt: None,
        }),
        ..ProvisionRequest::default()
    };
    let not_found = ("4.00".to_owned(), None, vec![8, 2]);
    assert_eq!(bench.provision(asked.encode_to_vec()), not_found);
    bench.allow("meter", "k", Strategy::AllowCreateNewDevices);
    // SUCCESS, ACCESS_TOKEN (which is 0), "PB".
    let given = ("2.01".to_owned(), None, b"\x08\x01\x1a\x02PB".to_vec());
    assert_eq!(bench.provision(asked.encode_to_vec()), given);
    let failure = ("4.00".to_owned(), None, vec![8, 3]);
    assert_eq!(bench.provision(asked.encode_to_vec()), failure);
    asked.device_name = "pb2".into();
    asked.set_credentials_type(CredentialsType::X509Certificate);
    let given = (
        "2.01".to_owned(),
        None,
        b"\x08\x01\x10\x01\x1a\x04CQ==".to_vec(),
    );
    assert_eq!(bench.provision(asked.encode_to_vec()), given);
    asked.set_credentials_type(CredentialsType::Lwm2m);
    assert_eq!(bench.provision(asked.encode_to_vec()).0, "4.00");
    // Noise.
    for noise in [
        &b"\xff\xff\xff"[..],
        b"\x0a\xff",
        b"\x1a\x80\x80\x80\x80\x10",
    ] {
        assert_eq!(bench.provision(noise), ("4.00".to_owned(), None, vec![]));
    }
}

#[test]
fn guessing_is_limited() {
    let bench = Bench::new();
    bench.allow("meter", "k", Strategy::AllowCreateNewDevices);
    let wrong = r#"{"provisionDeviceKey":"k","provisionDeviceSecret":"guess"}"#;
    for _ in 0..10 {
        bench.provisions(wrong, "4.00", NOT_FOUND);
    }
    let refused = bench.answer(&request(POST, PROVISION, &body("")));
    assert_eq!(
        (code_text(refused.code), refused.max_age),
        ("4.29".into(), Some(6))
    );
    let mut other = request(POST, PROVISION, &body(""));
    other.peer.slot = 1;
    assert_eq!(bench.code(&other), "2.01");
    let mut later = request(POST, PROVISION, &body(""));
    later.received_unix_ms += 6000;
    assert_eq!(bench.code(&later), "2.01");
}

/// The device is there once the registry has it: refused its credentials then, it would never get any.
#[test]
fn a_device_gets_its_credentials_whatever_the_store_says() {
    let bench = Bench::new();
    bench.allow("meter", "k", Strategy::AllowCreateNewDevices);
    bench.opened.store.close();
    let (code, _, payload) = bench.provision(body(r#","deviceName":"m1""#));
    let answer = String::from_utf8(payload).unwrap();
    assert_eq!(code, "2.01", "{answer}");
    let device = bench.opened.registry.device_by_name("m1").unwrap();
    let Credential::AccessToken(token) = &device.credential else {
        panic!("{device:?}");
    };
    assert!(answer.contains(&**token), "{answer}");
}
