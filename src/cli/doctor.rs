//! `tidegate doctor`.

use crate::cli::arguments::DoctorArguments;
use crate::cli::{Failure, load_config, output};
use crate::doctor::{Finding, Host, Needs, Severity, examine};
use serde_json::json;
use std::io::Write as _;

pub(super) fn run(arguments: &DoctorArguments) -> Result<(), Failure> {
    let config = load_config(arguments.conf.as_deref(), false)?;
    let needs = Needs {
        shards: usize::from(config.tidegate.shards),
        driver: config.tidegate.driver,
        ports: [config.coap.bind.port(), config.dtls.bind.port()],
    };
    let findings = examine(&Host::of_machine(), needs);
    let stops = count(&findings, Severity::Stops);
    let mut out = output::stdout();
    if arguments.json {
        let list: Vec<_> = findings.iter().map(to_json).collect();
        output::write_json(&mut out, &json!({ "ok": stops == 0, "findings": list }))?;
    } else {
        for finding in &findings {
            print(&mut out, finding)?;
        }
        let slows = count(&findings, Severity::Slows);
        let verdict = match (stops, slows) {
            (0, 0) => "Nothing to mend.".to_owned(),
            (0, slows) => format!("The server starts; {slows} of these would make it better."),
            (stops, _) => format!("The server would not start: {stops} to mend first."),
        };
        writeln!(out, "\n{verdict}")?;
    }
    out.flush()?;
    if stops == 0 {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    let of_it = findings
        .iter()
        .filter(|finding| finding.severity == severity);
    of_it.count()
}

fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Stops => "stops",
        Severity::Slows => "slows",
        Severity::Hint => "hint",
        Severity::Fine => "fine",
    }
}

fn print(out: &mut impl std::io::Write, finding: &Finding) -> std::io::Result<()> {
    let Finding {
        severity,
        subject,
        found,
        why,
        remedy,
    } = finding;
    let found = output::printable(found);
    writeln!(out, "{:<5}  {subject}: {found}", mark(*severity))?;
    if !why.is_empty() {
        writeln!(out, "       why: {why}")?;
    }
    for line in remedy.lines() {
        writeln!(out, "         {line}")?;
    }
    Ok(())
}

fn to_json(finding: &Finding) -> serde_json::Value {
    json!({
        "severity": mark(finding.severity),
        "subject": finding.subject,
        "found": finding.found,
        "why": finding.why,
        "remedy": finding.remedy.lines().collect::<Vec<_>>(),
    })
}
