//! Devices that register themselves by a certificate chain (TB section 4.1, for CoAP).

use super::Strategy;
use super::provisioning::Provisioning;
use crate::crypto::chain::{Authority, ChainError, common_name};
use regex::{Regex, RegexBuilder};

/// Longest text of the authority's certificate, bytes.
const PEM_BYTES_MAX: usize = 32 << 10;
/// Longest pattern, bytes, and the memory that it may take when it is compiled.
const PATTERN_BYTES_MAX: usize = 255;
const PATTERN_MEMORY_MAX: usize = 1 << 20;

/// Whose chains are taken, and for which devices.
#[derive(Debug)]
pub struct ChainRule {
    /// To whom a chain has to lead.
    pub authority: Authority,
    pattern: Regex,
    /// Whether a device that is not there yet is made.
    pub may_create: bool,
}

impl ChainRule {
    /// The rule of a profile that has one.
    ///
    /// # Errors
    ///
    /// Says which field cannot be used, and why.
    pub(super) fn compile(
        provisioning: &Provisioning,
    ) -> Result<Option<Self>, (&'static str, String)> {
        if provisioning.strategy != Strategy::X509CertificateChain {
            return Ok(None);
        }
        let certificate = |problem: String| ("provisioning.certificate", problem);
        let pattern = |problem: String| ("provisioning.certificateRegExPattern", problem);
        let pem = provisioning.certificate.as_deref().unwrap_or_default();
        if pem.is_empty() || pem.len() > PEM_BYTES_MAX {
            let problem = "the strategy needs the authority's certificate, in PEM";
            return Err(certificate(problem.to_owned()));
        }
        // As ThingsBoard: the first one counts.
        let first = rustls_pemfile::certs(&mut pem.as_bytes()).next();
        let der = first
            .and_then(Result::ok)
            .ok_or_else(|| certificate("there is no certificate in it, in PEM".to_owned()))?;
        let authority =
            Authority::read(&der).map_err(|error: ChainError| certificate(error.to_string()))?;
        let text = provisioning.certificate_reg_ex_pattern.as_deref();
        let text = text.filter(|text| !text.is_empty() && text.len() <= PATTERN_BYTES_MAX);
        let text = text.ok_or_else(|| {
            pattern(format!(
                "the strategy needs one, of up to {PATTERN_BYTES_MAX} bytes"
            ))
        })?;
        let compiled = RegexBuilder::new(text)
            .size_limit(PATTERN_MEMORY_MAX)
            .build()
            .map_err(|error| pattern(error.to_string()))?;
        if compiled.captures_len() < 2 {
            return Err(pattern(
                "it has no group, which would be the device's name".to_owned(),
            ));
        }
        Ok(Some(Self {
            authority,
            pattern: compiled,
            may_create: provisioning.allow_create_new_devices_by_x509_certificate,
        }))
    }

    /// The name of the device with this leaf.
    pub fn device_name(&self, leaf: &[u8]) -> Option<String> {
        let name = common_name(leaf)?;
        let group = self.pattern.captures(&name)?.get(1)?.as_str();
        (!group.is_empty()).then(|| group.to_owned())
    }
}
