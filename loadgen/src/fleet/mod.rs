//! The fleet before it starts: names, credentials, and who knows them.

mod admin;
mod certificates;
mod file;
mod operator;

pub(crate) use operator::{Operator, number_of};

use std::sync::Arc;

use tidegate::coap::client::{RequestParts, RequestTemplate};
use tidegate::crypto::pre_shared_key::PreSharedKey;
use tidegate::crypto::suite::{self, CipherSuite};
use tidegate::dtls::Credentials;
use tidegate::dtls::client::{ClientConfig, ClientPreSharedKey, ServerVerification};
use tidegate::random::{Random, SeededRandom};

use crate::arguments::{Authentication, CredentialSource, Plan, ResumeBy, Scenario};
use crate::live::Live;
use crate::target::split_path;
use crate::worker::DeviceSpec;

/// Content-Format of JSON (RFC 7252 section 12.3).
const CONTENT_FORMAT_JSON: u16 = 50;
/// Longest Uri-Path or Uri-Query option, bytes (RFC 7252 section 5.10).
const OPTION_BYTES_MAX: usize = 255;
const TOKEN_LENGTH: usize = 20;

/// What one device shows.
#[derive(Clone, Debug, Default)]
struct Identity {
    token: Option<String>,
    credentials: Option<Arc<Credentials>>,
    pre_shared_key: Option<Arc<ClientPreSharedKey>>,
}

impl Identity {
    fn with_key(identity: &str, key: PreSharedKey) -> Self {
        let identity = identity.as_bytes().to_vec();
        Self {
            pre_shared_key: Some(Arc::new(ClientPreSharedKey { identity, key })),
            ..Self::default()
        }
    }
}

/// Makes the devices: reads, makes and registers credentials as the plan says.
///
/// # Errors
///
/// What is wrong, with the remedy.
pub(crate) fn build(plan: &Plan, live: &mut Live) -> Result<Vec<DeviceSpec>, String> {
    let count = plan.devices.unwrap_or(0);
    let identities = match &plan.credentials {
        CredentialSource::Nothing => vec![Identity::default(); count],
        CredentialSource::Token(token) => {
            let identity = Identity {
                token: Some(token.clone()),
                ..Identity::default()
            };
            vec![identity; count]
        }
        CredentialSource::File(path) => file::read(path, plan.authentication, plan.devices)?,
        CredentialSource::Unregistered => {
            let made = certificates::make(&names(plan.seed, count), plan.threads, live)?;
            made.into_iter().map(|made| made.identity()).collect()
        }
        CredentialSource::Admin(url) => register(plan, url, count, live)?,
    };
    specs(plan, identities)
}

/// `load-<seed>-<number>`.
fn names(seed: u64, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("load-{seed}-{number}"))
        .collect()
}

/// The profile that the devices are registered under, when all of them are to be changed at once.
fn profile_name(plan: &Plan) -> Option<String> {
    (plan.scenario == Scenario::Observe).then(|| format!("load-{}", plan.seed))
}

/// The token of a device of this seed: the same in each run, so that registering it again changes
/// nothing. Whoever knows the seed knows the token.
fn token(seed: u64, number: u64) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = SeededRandom::new(SeededRandom::new(seed).next_u64() ^ number);
    (0..TOKEN_LENGTH)
        .map(|_| usize::try_from(random.below(62)).map_or('A', |at| char::from(ALPHABET[at])))
        .collect()
}

/// The pre-shared key of a device of this seed, likewise.
fn pre_shared_key(seed: u64, number: u64) -> PreSharedKey {
    let start = SeededRandom::new(seed ^ 0x7073_6b00).next_u64();
    PreSharedKey::random(&mut SeededRandom::new(start ^ number))
}

fn register(
    plan: &Plan,
    url: &str,
    count: usize,
    live: &mut Live,
) -> Result<Vec<Identity>, String> {
    let names = names(plan.seed, count);
    let (identities, mut devices) = if plan.authentication == Authentication::X509 {
        let made = certificates::make(&names, plan.threads, live)?;
        let devices = std::iter::zip(&names, &made)
            .map(|(name, made)| admin::NewDevice::with_certificate(name, &made.pem))
            .collect::<Vec<_>>();
        (
            made.into_iter().map(|made| made.identity()).collect(),
            devices,
        )
    } else if plan.authentication == Authentication::Psk {
        let key = |number| pre_shared_key(plan.seed, number);
        let numbered = || std::iter::zip(&names, 0..);
        let devices = numbered()
            .map(|(name, number)| admin::NewDevice::with_key(name, &key(number)))
            .collect::<Vec<_>>();
        let identities = numbered().map(|(name, number)| Identity::with_key(name, key(number)));
        (identities.collect(), devices)
    } else {
        let tokens: Vec<String> = (0..count as u64)
            .map(|number| token(plan.seed, number))
            .collect();
        let devices = std::iter::zip(&names, &tokens)
            .map(|(name, token)| admin::NewDevice::with_token(name, token))
            .collect::<Vec<_>>();
        let identity = |token| Identity {
            token: Some(token),
            ..Identity::default()
        };
        (tokens.into_iter().map(identity).collect(), devices)
    };
    let profile = profile_name(plan);
    if let Some(profile) = &profile {
        let of_profile = |device: admin::NewDevice| device.of_profile(profile);
        devices = devices.into_iter().map(of_profile).collect();
    }
    let token_file = plan.admin_token_file.as_deref();
    admin::register(url, token_file, profile.as_deref(), &devices, live)?;
    Ok(identities)
}

fn specs(plan: &Plan, identities: Vec<Identity>) -> Result<Vec<DeviceSpec>, String> {
    let (segments, queries) = split_path(&plan.path).map_err(|error| format!("--path: {error}"))?;
    let anonymous = plan
        .target
        .secure
        .then(|| Arc::new(client_config(plan, &Identity::default())));
    let mut shared: Option<(Option<String>, Arc<RequestTemplate>)> = None;
    identities
        .into_iter()
        .map(|identity| {
            let template = match &shared {
                Some((token, template)) if *token == identity.token => Arc::clone(template),
                _ => {
                    let made = template(plan, &segments, &queries, identity.token.as_deref())?;
                    let made = Arc::new(made);
                    shared = Some((identity.token.clone(), Arc::clone(&made)));
                    made
                }
            };
            let is_anonymous = identity.credentials.is_none() && identity.pre_shared_key.is_none();
            let security = if is_anonymous {
                anonymous.clone()
            } else {
                Some(Arc::new(client_config(plan, &identity)))
            };
            Ok(DeviceSpec { template, security })
        })
        .collect()
}

fn client_config(plan: &Plan, identity: &Identity) -> ClientConfig {
    let with_key = plan.authentication == Authentication::Psk;
    let suites = CipherSuite::ALL.iter().copied();
    let suites = suites.filter(|suite| match suite.authentication() {
        suite::Authentication::PreSharedKey => with_key,
        // The server would take the client's first, and nobody would be asked for a key.
        suite::Authentication::Ecdsa | suite::Authentication::Rsa => !with_key,
    });
    ClientConfig {
        credentials: identity.credentials.clone(),
        pre_shared_key: identity.pre_shared_key.clone(),
        cipher_suites: plan
            .suite
            .map_or_else(|| suites.collect(), |suite| vec![suite]),
        verification: plan
            .verify_one_in
            .map_or(ServerVerification::None, ServerVerification::OneIn),
        session_tickets: plan.resume_by == Some(ResumeBy::Ticket),
        keep_session: plan.resume_by.is_some(),
        // Each device has a socket of its own, so they need not differ.
        connection_id: plan.cid.map(|length| vec![0xc1; usize::from(length)]),
        ..ClientConfig::default()
    }
}

fn template(
    plan: &Plan,
    segments: &[String],
    queries: &[String],
    token: Option<&str>,
) -> Result<RequestTemplate, String> {
    let segments: Vec<String> = segments
        .iter()
        .map(|segment| segment.replace("{token}", token.unwrap_or("{token}")))
        .collect();
    if segments
        .iter()
        .chain(queries)
        .any(|part| part.len() > OPTION_BYTES_MAX)
    {
        return Err(format!(
            "--path: a part of it is longer than the {OPTION_BYTES_MAX} bytes that CoAP allows (a long token?)"
        ));
    }
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let queries: Vec<&str> = queries.iter().map(String::as_str).collect();
    RequestTemplate::new(&RequestParts {
        method: plan.method,
        path: &segments,
        queries: &queries,
        content_format: (!plan.payload.is_empty()).then_some(CONTENT_FORMAT_JSON),
        observe: (plan.scenario == Scenario::Observe).then_some(0),
    })
    .ok_or_else(|| "--path is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::plan;

    #[test]
    fn tokens_and_names_belong_to_the_seed() {
        assert_eq!(token(1, 5), token(1, 5));
        let mut tokens: Vec<String> = (0..1000)
            .map(|number| token(number % 2, number / 2))
            .collect();
        assert!(tokens.iter().all(|token| token.len() == 20));
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), 1000);
        assert_eq!(names(7, 2), ["load-7-0", "load-7-1"]);
    }

    #[test]
    fn the_token_is_put_into_the_path_and_the_template_is_shared() {
        let mut live = Live::new();
        let plan = plan("--target coap://127.0.0.1 --token abc --devices 3").unwrap();
        let specs = build(&plan, &mut live).unwrap();
        assert_eq!(specs.len(), 3);
        assert!(Arc::ptr_eq(&specs[0].template, &specs[2].template));
        let mut message = Vec::new();
        specs[0].template.encode(true, 1, &[], b"{}", &mut message);
        let packet = coap_lite::Packet::from_bytes(&message).unwrap();
        let path: Vec<_> = packet
            .get_option(coap_lite::CoapOption::UriPath)
            .unwrap()
            .iter()
            .collect();
        assert_eq!(path, [b"api" as &[u8], b"v1", b"abc", b"telemetry"]);
        assert_eq!(
            packet.get_content_format(),
            Some(coap_lite::ContentFormat::ApplicationJSON)
        );
        assert_eq!(packet.payload, b"{}");
    }

    #[test]
    fn certificate_devices_have_each_their_own_key() {
        let plan = plan("--target coaps://127.0.0.1 --scenario handshake --auth x509 --devices 5")
            .unwrap();
        let specs = build(&plan, &mut Live::new()).unwrap();
        let leaves: Vec<_> = specs
            .iter()
            .map(|spec| {
                let security = spec.security.as_ref().unwrap();
                let credentials = security.credentials.as_ref().unwrap();
                let leaf =
                    tidegate::crypto::certificate::LeafInfo::parse(&credentials.chain[0]).unwrap();
                assert!(credentials.key.public_key_matches(leaf.spki));
                leaf.spki.to_vec()
            })
            .collect();
        assert_ne!(leaves[0], leaves[1]);
        assert_eq!(leaves.len(), 5);
    }
}
