//! What the numbers say went wrong, each with its remedy.

use tidegate::time::Duration;

use super::{Hearing, Report};
use crate::arguments::{Authentication, CredentialSource, Load};
use crate::text::{grouped, micros, response_code, span};

/// A server that sent nothing for this long before the end of the load does not answer any more: within it a
/// request is repeated once at least (RFC 7252 section 4.8).
const SILENCE_MIN: Duration = Duration::from_secs(5);

/// A sentence or two for each finding, the gravest first.
pub(super) fn hints(report: &Report<'_>) -> Vec<String> {
    let mut hints = Vec::new();
    let gone = gone(report);
    hints.extend(gone.map(|hearing| silence(report, hearing)));
    failures(report, gone.is_some(), &mut hints);
    handshakes(report, &mut hints);
    accuracy(report, &mut hints);
    hints
}

/// How the server was heard, when it stopped answering while it was asked.
fn gone(report: &Report<'_>) -> Option<Hearing> {
    let failed = report.total.counters.errors() > 0;
    report
        .hearing
        .filter(|hearing| failed && (hearing.refused || hearing.silence_measured >= SILENCE_MIN))
}

fn silence(report: &Report<'_>, hearing: Hearing) -> String {
    let since = span(hearing.silence);
    if hearing.refused {
        let address = report.plan.target.address;
        return format!(
            "the server does not answer any more: nothing listens at {address} (ICMP port unreachable, {} \
             times), and its last datagram came {since} before the end; it was stopped, or ended by itself: \
             see its log",
            grouped(report.total.counters.refused)
        );
    }
    format!(
        "the server does not answer any more: no datagram came from it in the last {since}, and none of \
         ours was refused; it hangs, its host is down, or the network drops what goes one way or the other"
    )
}

fn failures(report: &Report<'_>, gone: bool, hints: &mut Vec<String>) {
    let counters = &report.total.counters;
    if counters.wrong > 0 {
        hints.push(format!(
            "{} messages of the server were malformed: no correct server sends such; capture them with \
             tcpdump on plain CoAP",
            grouped(counters.wrong)
        ));
    }
    for &(code, count) in &counters.codes {
        hints.push(format!(
            "{} requests were answered {}{}",
            grouped(count),
            response_code(code),
            remedy_for(code, report)
        ));
    }
    if counters.resets > 0 {
        hints.push(format!(
            "{} requests were answered by a reset: the server did not take them for CoAP requests",
            grouped(counters.resets)
        ));
    }
    if counters.timeouts > 0 {
        let remedy = match gone {
            true => "",
            false => {
                ": the server or the network lost them; look for drops at its socket (`ss -uanm`, \
                 `nstat -az UdpRcvbufErrors`)"
            }
        };
        hints.push(format!(
            "{} requests had no answer within {}{remedy}",
            grouped(counters.timeouts),
            span(report.plan.answer_timeout)
        ));
    }
    if counters.sessions_lost > 0 {
        hints.push(format!(
            "{} requests were lost because the server ended their session",
            grouped(counters.sessions_lost)
        ));
    }
    if report.calls.is_some() && counters.sent > counters.ok {
        hints.push(format!(
            "{} notifications never came; {} observations were ended by the server: look at its metrics of \
             relations and at drops of the network",
            grouped(counters.sent - counters.ok),
            grouped(counters.observations_ended)
        ));
    }
    if counters.disordered > 0 {
        hints.push(format!(
            "{} notifications told of something older than the device knew already",
            grouped(counters.disordered)
        ));
    }
    if counters.not_sent > 0 {
        let reason = match gone {
            true => "their devices waited for the server",
            false => {
                "their devices were still busy with earlier ones; the rate is above what the server, or \
                 this many devices, can take"
            }
        };
        hints.push(format!(
            "{} operations were never begun: {reason}",
            grouped(counters.not_sent)
        ));
    }
    if counters.refused > 0 && !gone {
        hints.push(format!(
            "{} datagrams were refused (ICMP port unreachable): the server was down for a while",
            grouped(counters.refused)
        ));
    }
}

fn remedy_for(code: u8, report: &Report<'_>) -> &'static str {
    match (code, report.plan.authentication, &report.plan.credentials) {
        (0x81, Authentication::Token, CredentialSource::Token(_) | CredentialSource::File(_)) => {
            ": the server does not know the token; check --token or --devices-file, or let --admin \
             register devices"
        }
        (0x81, Authentication::X509, CredentialSource::File(_)) => {
            ": the server does not know the certificates; register them, or let --admin do it"
        }
        (0x81, Authentication::Psk, CredentialSource::File(_)) => {
            ": the server does not know the keys; import them, or let --admin do it"
        }
        (0x81, _, _) => {
            ": the server does not know the devices; was it another one that --admin registered them at?"
        }
        (0x84, _, _) => ": check --path",
        (0x85, _, _) => ": check --method and --path",
        (0x80 | 0x8f, _, _) => ": check --payload and --path",
        (0xa3, _, _) => ": the server is overloaded and says so",
        _ => "",
    }
}

fn handshakes(report: &Report<'_>, hints: &mut Vec<String>) {
    let counters = &report.total.counters;
    for (reason, count) in &counters.handshake_errors {
        hints.push(format!(
            "{} handshakes failed: {reason}{}",
            grouped(*count),
            alert_remedy(reason)
        ));
    }
    for (alert, count) in &counters.alerts {
        if !counters
            .handshake_errors
            .iter()
            .any(|(reason, _)| reason.contains(alert.as_str()))
        {
            hints.push(format!("{} alerts {alert} of the server", grouped(*count)));
        }
    }
}

/// What to do about an alert that `reason` names.
pub(crate) fn alert_remedy(reason: &str) -> &'static str {
    const REMEDIES: [(&str, &str); 7] = [
        (
            "handshake_failure",
            ": no cipher suite or group in common, or the server wants a certificate; try without --suite, or --auth x509",
        ),
        (
            "certificate_expired",
            ": the devices' certificates are out of date",
        ),
        (
            "certificate_unknown",
            ": the server does not accept the devices' certificates",
        ),
        (
            "bad_certificate",
            ": the server does not accept the devices' certificates",
        ),
        (
            "unknown_ca",
            ": the server wants certificates of a CA it knows; use --devices-file",
        ),
        ("protocol_version", ": the server does not speak DTLS 1.2"),
        ("internal_error", ": see the server's log"),
    ];
    REMEDIES
        .iter()
        .find(|(name, _)| reason.contains(name))
        .map_or("", |&(_, remedy)| remedy)
}

fn accuracy(report: &Report<'_>, hints: &mut Vec<String>) {
    let counters = &report.total.counters;
    let lag = report.total.lag.value_at_quantile(0.99);
    let measured = report.operations();
    let open = matches!(report.plan.load, Load::Open { .. }) && gone(report).is_none();
    if open && lag > 1000 && lag > measured.value_at_quantile(0.5) / 10 {
        hints.push(format!(
            "requests left later than intended, by {} at p99, and latency counts that: devices were busy \
             with earlier requests, or the generator had too little CPU; use more --devices, more \
             --threads, or another host",
            micros(lag)
        ));
    }
    if counters.stalls > 0 {
        hints.push(
            "devices had to wait for a free Message ID: each has 65 536 of them per 247 s (RFC 7252 \
             section 4.4), 265 requests per second; use more --devices"
                .into(),
        );
    }
    if counters.unsent_datagrams > 0 {
        hints.push(format!(
            "{} datagrams could not be sent by this host and were lost; raise net.core.wmem_max or lower \
             the load",
            grouped(counters.unsent_datagrams)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;
    use crate::arguments::tests::example as plan;
    use crate::stats::tally;

    #[test]
    fn a_good_run_needs_no_words() {
        let plan = plan();
        assert_eq!(hints(&example(&plan)), Vec::<String>::new());
    }

    #[test]
    fn a_server_that_went_away_is_told_from_one_that_loses_requests() {
        let plan = plan();
        let mut report = example(&plan);
        let counters = &mut report.total.counters;
        (counters.timeouts, counters.failed) = (3, 1033);
        (counters.not_sent, counters.refused) = (1030, 100);
        let hearing = Hearing {
            silence: Duration::from_millis(5200),
            silence_measured: Duration::from_millis(2100),
            refused: true,
        };
        report.hearing = Some(hearing);
        let said = hints(&report);
        assert_eq!(said.len(), 3, "{said:#?}");
        for part in [
            "does not answer any more",
            "port unreachable, 100 times",
            "5.2 s before",
        ] {
            assert!(said[0].contains(part), "{part}: {said:#?}");
        }
        let all = said.join("\n");
        for wrong in ["nstat", "the rate is above", "for a while"] {
            assert!(!all.contains(wrong), "{wrong}: {said:#?}");
        }

        // Nothing comes back, not even that: only a long silence tells.
        report.total.counters.refused = 0;
        let silent = |seconds| Hearing {
            silence: Duration::from_secs(12),
            silence_measured: Duration::from_secs(seconds),
            refused: false,
        };
        report.hearing = Some(silent(9));
        let said = hints(&report);
        assert!(
            said[0].contains("no datagram came from it in the last 12 s"),
            "{said:#?}"
        );
        report.hearing = Some(silent(3));
        assert!(hints(&report)[0].contains("nstat"));

        // It was back in time.
        report.total.counters.refused = 100;
        let all = hints(&report).join("\n");
        assert!(
            all.contains("down for a while") && !all.contains("any more"),
            "{all}"
        );
    }

    #[test]
    fn a_short_time_is_told_in_its_unit() {
        let mut plan = plan();
        plan.answer_timeout = Duration::from_millis(1);
        let mut report = example(&plan);
        report.total.counters.timeouts = 1;
        let said = hints(&report);
        assert!(said[0].contains("no answer within 1 ms"), "{said:#?}");
    }

    #[test]
    fn each_trouble_has_its_remedy() {
        let plan = plan();
        let mut report = example(&plan);
        let counters = &mut report.total.counters;
        tally(&mut counters.codes, 0x81);
        tally(
            &mut counters.handshake_errors,
            "the server sent the alert handshake_failure (40)".into(),
        );
        tally(&mut counters.alerts, "handshake_failure (40)".into());
        counters.stalls = 1;
        counters.timeouts = 2;
        counters.wrong = 1;
        let hints = hints(&report);
        assert_eq!(hints.len(), 5, "{hints:#?}");
        for part in [
            "4.01 Unauthorized: the server does not know the token",
            "--suite",
            "Message ID",
            "nstat",
            "malformed",
        ] {
            assert!(
                hints.iter().any(|hint| hint.contains(part)),
                "{part}: {hints:#?}"
            );
        }
    }
}
