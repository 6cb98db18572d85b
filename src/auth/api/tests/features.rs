//! Claiming, packages, rate limits and protobuf: vectors 14 to 16 of TB section 10, and what its
//! sections 6 and 7 say of them.

use super::*;
use crate::auth::api::proto::GetAttributeResponse;
use crate::auth::request::Block;
use crate::registry::packages::{ChecksumAlgorithm, NewPackage, PackageKind};
use crate::registry::profile::{PayloadType, ProfileSettings, RateLimit};
use crate::registry::{DeviceOptions, Registry as _, RegistryError};
use prost::Message as _;

const CLAIM: &str = "/api/v1/ACCESS01/claim";

impl Bench {
    /// Changes the profile that both devices have.
    fn change(&self, change: impl Fn(&mut ProfileSettings)) {
        let changed = self
            .opened
            .registry
            .change_profile("default", &mut |settings| {
                let mut settings = settings.clone();
                change(&mut settings);
                Ok(settings)
            });
        changed.unwrap();
    }

    fn own(&self, device: &str, change: impl Fn(&mut DeviceOptions)) {
        let changed = self.opened.registry.change_options(device, &mut |options| {
            change(options);
            Ok::<(), RegistryError>(())
        });
        changed.unwrap();
    }

    fn get(&self, uri: &str) -> Response {
        self.answer(&request(GET, uri, ""))
    }
}

#[test]
fn vector_14_bodies_of_claims() {
    let bench = Bench::new();
    let claims = Arc::clone(bench.api.claims());
    let device = bench.token_device.id;
    for (payload, code, until) in [
        ("[]", "4.00", None),
        ("5", "4.00", None),
        ("{\"secretKey\":{}}", "4.00", None),
        ("{\"secretKey\":true}", "4.00", None),
        ("{\"durationMs\":-1}", "4.00", None),
        ("{\"durationMs\":\"x\"}", "4.00", None),
        ("{\"durationMs\":1e999999999}", "4.00", None),
        ("{", "4.00", None),
        ("", "2.01", Some(86_400_000)),
        ("{}", "2.01", Some(86_400_000)),
        (
            r#"{"secretKey":"value","durationMs":60000}"#,
            "2.01",
            Some(60_000),
        ),
        (
            r#"{"secretKey":5,"durationMs":"60000","x":[]}"#,
            "2.01",
            Some(60_000),
        ),
        (
            r#"{"secretKey":null,"durationMs":null}"#,
            "2.01",
            Some(86_400_000),
        ),
    ] {
        claims.withdraw(device);
        assert_eq!(bench.post(CLAIM, payload), code, "{payload}");
        let until = until.map(|duration: u64| NOW + duration);
        assert_eq!(claims.offered_until_ms(device, NOW), until, "{payload}");
    }
    let long = format!("{{\"secretKey\":\"{}\"}}", "s".repeat(256));
    assert_eq!(bench.post(CLAIM, &long), "4.00");
    // The first offer counts, and the answer is the same.
    claims.withdraw(device);
    assert_eq!(bench.post(CLAIM, "{secretKey:one}"), "2.01");
    assert_eq!(bench.post(CLAIM, "{secretKey:two}"), "2.01");
    let claim = |secret| {
        claims.claim(device, secret, NOW, || {
            Ok::<(), crate::registry::claim::ClaimError>(())
        })
    };
    assert!(claim("two").is_err());
    assert!(claim("one").is_ok());
    // By certificate, too.
    let posted = request(POST, "/api/v1/claim", "");
    assert_eq!(bench.code(&secure(Some(CERTIFICATE), posted)), "2.01");
    assert!(
        claims
            .offered_until_ms(bench.certificate_device.id, NOW)
            .is_some()
    );
}

#[test]
fn claiming_can_be_switched_off_but_for_single_devices() {
    let bench = Bench::with(ApiSettings {
        claiming_allowed: false,
        ..ApiSettings::default()
    });
    let claims = bench.api.claims();
    let device = bench.token_device.id;
    assert_eq!(bench.post(CLAIM, ""), "2.01");
    assert_eq!(claims.offered_until_ms(device, NOW), None);
    let mut batch = Batch::new();
    let scope = AttributeScope::Server;
    batch
        .push_attribute(device, scope, "claimingAllowed", 1, ValueRef::Bool(true))
        .unwrap();
    bench.write(batch);
    assert_eq!(bench.post(CLAIM, ""), "2.01");
    assert!(claims.offered_until_ms(device, NOW).is_some());
}

impl Bench {
    fn write(&self, batch: Batch) {
        let (sender, receiver) = mpsc::channel();
        let done = move |_: Result<(), &StoreError>| sender.send(()).unwrap();
        self.opened
            .store
            .append(batch, Box::new(done))
            .ok()
            .unwrap();
        receiver.recv().unwrap();
    }

    fn package(&self, kind: PackageKind, version: &str, bytes: &[u8]) -> u64 {
        let new = NewPackage {
            kind,
            title: "T".into(),
            version: version.into(),
            tag: None,
            url: bytes.is_empty().then(|| "coap://elsewhere/fw".into()),
            algorithm: ChecksumAlgorithm::Sha256,
            checksum: None,
        };
        let added = self.opened.packages.add(&new, &mut { bytes }, NOW);
        added.unwrap().id
    }
}

#[test]
fn vector_15_packages_in_chunks() {
    let bench = Bench::new();
    let bytes: Vec<u8> = (0..1300_u32).map(|n| n.to_be_bytes()[3]).collect();
    assert_eq!(code_text(bench.get("/fw/ACCESS01").code), "4.04");
    let firmware = bench.package(PackageKind::Firmware, "1.0", &bytes);
    let software = bench.package(PackageKind::Software, "2.0", b"software");
    bench.change(|settings| {
        settings.firmware = Some(firmware);
        settings.software = Some(software);
    });
    let chunk = |uri: &str| {
        let answer = bench.get(uri);
        assert_eq!(code_text(answer.code), "2.05", "{uri}");
        assert_eq!(answer.content_format, None);
        answer.payload
    };
    assert_eq!(
        chunk("/fw/ACCESS01?title=T&version=1.0&size=512&chunk=0"),
        bytes[..512]
    );
    assert_eq!(chunk("/fw/ACCESS01?size=512&chunk=1"), bytes[512..1024]);
    assert_eq!(chunk("/fw/ACCESS01?size=512"), bytes[..512]);
    assert_eq!(
        chunk("/fw/ACCESS01?size=512&chunk=2&title=T"),
        bytes[1024..]
    );
    assert_eq!(chunk("/sw/ACCESS01"), b"software");
    for (uri, code) in [
        ("/fw/ACCESS01?version=1.1&size=512", "4.00"),
        ("/fw/ACCESS01?title=t&size=512", "4.00"),
        ("/sw/ACCESS01?version=1.0", "4.00"),
        ("/fw/ACCESS01?size=512&chunk=3", "4.04"),
        ("/fw/ACCESS01?size=1&chunk=1300", "4.04"),
        (
            "/fw/ACCESS01?size=9223372036854775807&chunk=9223372036854775807",
            "4.04",
        ),
        ("/fw/ACCESS01?size=x", "4.00"),
        ("/fw/ACCESS01?size=-1", "4.00"),
        ("/fw/ACCESS01?size=512&chunk=x", "4.00"),
        ("/fw/ACCESS01?size=99999999999999999999999", "4.00"),
        ("/fw/WRONG", "4.01"),
        ("/fw", "4.01"),
        ("/fw/ACCESS01/x", "4.01"),
        ("/api/v1/ACCESS01/firmware", "4.00"),
    ] {
        assert_eq!(code_text(bench.get(uri).code), code, "{uri}");
    }
    for path in ["/fw/ACCESS01", "/sw/ACCESS01", "/fw"] {
        assert_eq!(bench.post(path, ""), "4.05");
    }
    // The whole of it, and large chunks, block by block: what is asked for is read and no more.
    let block = |uri: &str, num, size_exponent| {
        let mut asked = request(GET, uri, "");
        asked.message.block2 = Some(Block {
            num,
            more: false,
            size_exponent,
        });
        let answer = bench.answer(&asked);
        let part = answer.part.unwrap();
        (answer.payload, part.offset, part.total, part.etag)
    };
    let whole = bench.get("/fw/ACCESS01");
    let etag = whole.part.unwrap().etag;
    assert_eq!(whole.payload, bytes[..1024]);
    let uri = "/fw/ACCESS01";
    assert_eq!(block(uri, 0, 6), (bytes[..1024].into(), 0, 1300, etag));
    assert_eq!(block(uri, 1, 6), (bytes[1024..].into(), 1024, 1300, etag));
    assert_eq!(block(uri, 3, 2), (bytes[192..256].into(), 192, 1300, etag));
    assert_eq!(block(uri, 2, 6), (vec![], 1300, 1300, etag));
    assert_eq!(block(uri, 0xf_ffff, 6).1, 1300);
    let chunked = "/fw/ACCESS01?size=1200&chunk=1";
    let (payload, offset, total, other) = block(chunked, 1, 2);
    assert_eq!((payload, offset, total), (bytes[1264..].into(), 64, 100));
    assert_ne!(other, etag, "another body");

    // Beyond ThingsBoard: a device with a certificate; its certificate overrides a token.
    for path in ["/fw?size=512", "/fw/ACCESS01?size=512"] {
        let asked = secure(Some(CERTIFICATE), request(GET, path, ""));
        assert_eq!(bench.answer(&asked).payload, bytes[..512]);
    }
    // A package of its own comes before its profile's.
    let own = bench.package(PackageKind::Firmware, "1.1", b"own");
    bench.own("token", |options| options.firmware = Some(own));
    assert_eq!(chunk("/fw/ACCESS01?version=1.1"), b"own");
    let asked = secure(Some(CERTIFICATE), request(GET, "/fw?size=3&chunk=0", ""));
    assert_eq!(bench.answer(&asked).payload, bytes[..3]);
    // What devices fetch elsewhere is not here.
    let url = bench.package(PackageKind::Firmware, "1.2", b"");
    bench.own("token", |options| options.firmware = Some(url));
    assert_eq!(code_text(bench.get("/fw/ACCESS01").code), "4.04");
    bench.own("token", |options| options.firmware = None);
    assert_eq!(chunk("/fw/ACCESS01?size=1"), bytes[..1]);
}

#[test]
fn vector_16_rate_limits() {
    let bench = Bench::new();
    bench.change(|settings| {
        settings.rate_limits.telemetry_messages = "1:60".into();
        settings.rate_limits.telemetry_data_points = "2:60".into();
        settings.rate_limits.messages = "2:60".into();
    });
    // More values than it may send leave the message.
    assert_eq!(bench.post(TELEMETRY, "{a:1,b:2,c:3}"), "4.29");
    assert_eq!(bench.stored("a"), None);
    assert_eq!(bench.post(TELEMETRY, "{a:1,b:null}"), "2.01");
    let second = bench.answer(&request(POST, TELEMETRY, "{a:2}"));
    assert_eq!(
        (code_text(second.code), second.max_age),
        ("4.29".into(), Some(60))
    );
    assert_eq!(
        bench.post(ATTRIBUTES, "{a:2}"),
        "4.29",
        "attributes count here too"
    );
    assert_eq!(bench.stored("a").unwrap().0, Value::Long(1));
    // A refused one is refused for its content first.
    assert_eq!(bench.post(TELEMETRY, "{"), "4.00");
    // Messages without values have a limit of their own.
    assert_eq!(bench.post(TELEMETRY, "{}"), "2.01");
    assert_eq!(bench.post(CLAIM, ""), "2.01");
    assert_eq!(code_text(bench.get(ATTRIBUTES).code), "4.29");
    assert_eq!(bench.post(CLAIM, ""), "4.29");
    // Neither another device nor a download is concerned.
    let posted = request(POST, "/api/v1/telemetry", "{a:1}");
    assert_eq!(bench.code(&secure(Some(CERTIFICATE), posted)), "2.01");
    assert_eq!(code_text(bench.get("/fw/ACCESS01").code), "4.04");
    let mut later = request(POST, TELEMETRY, "{a:3}");
    later.received_unix_ms += 60_000;
    assert_eq!(bench.code(&later), "2.01");
    // A change holds for the very next request.
    bench.change(|settings| settings.rate_limits = Default::default());
    assert_eq!(bench.post(TELEMETRY, "{a:1,b:2,c:3}"), "2.01");
}

#[test]
fn the_server_s_limits_and_thingsboard_s_answer() {
    let bench = Bench::with(ApiSettings {
        server_limits: ServerLimits {
            telemetry_messages: RateLimit::parse("2:60").unwrap(),
            ..ServerLimits::default()
        },
        rate_limit_refusal: RateLimitRefusal::InternalServerError,
        ..ApiSettings::default()
    });
    assert_eq!(bench.post(TELEMETRY, "{a:1}"), "2.01");
    let posted = || {
        secure(
            Some(CERTIFICATE),
            request(POST, "/api/v1/telemetry", "{a:1}"),
        )
    };
    assert_eq!(bench.code(&posted()), "2.01");
    let refused = bench.answer(&posted());
    assert_eq!(
        (code_text(refused.code), refused.max_age),
        ("5.00".into(), None)
    );
    assert_eq!(bench.post(TELEMETRY, "{a:1}"), "5.00");
    assert_eq!(bench.post(TELEMETRY, "{}"), "2.01");
}

const READING: &str = r#"syntax = "proto3";
message Values { int64 count = 1; double level = 2; string name = 3; optional bool on = 4; }
message Reading { int64 ts = 1; Values values = 2; }"#;

#[test]
fn protobuf_uploads_are_read_by_the_profile_s_schemas() {
    let bench = Bench::new();
    bench.change(|settings| {
        settings.payload_type = PayloadType::Protobuf;
        settings.proto_schemas.telemetry = Some(READING.into());
        settings.proto_schemas.attributes =
            Some("syntax = \"proto3\"; message State { string fw = 1; }".into());
    });
    let post = |uri: &str, payload: &[u8]| {
        let mut posted = request(POST, uri, "");
        posted.message = posted.message.with_payload(payload);
        bench.answer(&posted)
    };
    // ts 7; count 300, level 25.0, no name.
    let reading = b"\x08\x07\x12\x0c\x08\xac\x02\x11\0\0\0\0\0\0\x39\x40";
    assert_eq!(post(TELEMETRY, reading), Response::empty(code::CREATED));
    assert_eq!(bench.stored("count"), Some((Value::Long(300), 7)));
    assert_eq!(bench.stored("level"), Some((Value::Double(25.0), 7)));
    assert_eq!(bench.stored("name"), Some((Value::String("".into()), 7)));
    assert_eq!(
        bench.stored("on"),
        None,
        "an optional field that is not set is absent"
    );
    for wrong in [&b"\xff"[..], b"{\"a\":1}", b"\x12\x7f", &[0x12; 300]] {
        assert_eq!(code_text(post(TELEMETRY, wrong).code), "4.00", "{wrong:?}");
    }
    assert_eq!(
        post(ATTRIBUTES, b"\x0a\x02v1"),
        Response::empty(code::CREATED)
    );

    let answer = bench.get(ATTRIBUTES);
    assert_eq!(
        (code_text(answer.code), answer.content_format),
        ("2.05".into(), Some(42))
    );
    let read = GetAttributeResponse::decode(&*answer.payload).unwrap();
    let kv = read.client[0].kv.clone().unwrap();
    assert_eq!((&*kv.key, &*kv.string_v, kv.kind), ("fw", "v1", 3));
    assert_eq!(read.client[0].ts, i64::try_from(NOW).unwrap());
    assert!(read.shared.is_empty() && !read.is_multiple);
    let missing = bench.get(&format!("{ATTRIBUTES}?clientKeys=x,y"));
    assert_eq!(
        (code_text(missing.code), missing.content_format),
        ("4.04".into(), Some(42))
    );
    let two = bench.get(&format!("{ATTRIBUTES}?clientKeys=fw,y"));
    assert!(
        GetAttributeResponse::decode(&*two.payload)
            .unwrap()
            .is_multiple
    );
    // Claims: {secretKey=1, durationMs=2}.
    for (claim, expected) in [
        (&b""[..], "2.01"),
        (b"\x0a\x01s\x10\x05", "2.01"),
        (b"\x0a\x05s", "4.00"),
        (b"{}", "4.00"),
    ] {
        assert_eq!(code_text(post(CLAIM, claim).code), expected, "{claim:?}");
    }
    // Back to JSON with the very next request.
    bench.change(|settings| settings.payload_type = PayloadType::Json);
    assert_eq!(code_text(post(TELEMETRY, reading).code), "4.00");
    assert_eq!(bench.post(TELEMETRY, "{a:1}"), "2.01");
}

#[test]
fn an_efento_profile_has_no_standard_path() {
    let bench = Bench::new();
    bench.change(|settings| {
        settings.device_type = crate::registry::profile::DeviceType::Efento;
    });
    for path in [TELEMETRY, ATTRIBUTES, CLAIM] {
        assert_eq!(bench.post(path, "{}"), "4.00");
    }
    assert_eq!(code_text(bench.get(ATTRIBUTES).code), "4.00");
    assert_eq!(bench.post("/api/v1/WRONG/telemetry", "{}"), "4.01");
}

/// A device asks for all its attributes at once: how many it has is bounded, and nobody else's business.
#[test]
fn client_attributes_of_a_device_are_bounded() {
    const ATTRIBUTES: &str = "/api/v1/ACCESS01/attributes";
    let bench = Bench::new();
    let upload = |key: &str| {
        let payload = format!("{{\"{key}\":\"{}\"}}", "x".repeat(60_000));
        bench.post(ATTRIBUTES, &payload)
    };
    let taken = (0..100).take_while(|n| upload(&format!("k{n}")) == "2.01");
    assert_eq!(taken.count(), (1 << 20) / 60_100);
    assert_eq!(upload("another"), "4.13");
    assert_eq!(
        bench.post(ATTRIBUTES, "{a:1}"),
        "2.01",
        "as long as it fits"
    );
    assert_eq!(bench.post("/api/v1/ACCESS01/telemetry", "{a:1}"), "2.01");
    assert_eq!(bench.get(ATTRIBUTES).code, 0x45);
    // Those that the server sets are the operator's.
    let mut batch = Batch::new();
    let (device, long) = (bench.token_device.id, "x".repeat(2 << 20));
    let value = ValueRef::String(&long);
    let scope = AttributeScope::Shared;
    batch.push_attribute(device, scope, "s", 0, value).unwrap();
    bench.append(batch);
    assert_eq!(bench.post(ATTRIBUTES, "{a:2}"), "2.01");
}

/// What a sensor says is put together only for a device: it takes a hundred times as long as to look at the
/// token.
#[test]
fn a_sensor_s_token_is_looked_at_first() {
    let bench = Bench::new();
    // More channels than are read.
    let upload = |token: &[u8]| {
        let mut payload = b"\x22\x00".repeat(17);
        payload.extend([0x82, 0x01, u8::try_from(token.len()).unwrap()]);
        payload.extend(token);
        let mut asked = request(POST, "/efento/m", "");
        asked.message = asked.message.with_payload(payload);
        bench.code(&asked)
    };
    assert_eq!(upload(b"NOBODY"), "4.01");
    bench.change(|settings| settings.device_type = DeviceType::Efento);
    assert_eq!(upload(b"ACCESS01"), "4.00");
    assert_eq!(upload(b""), "4.00");
}
