//! `tidegate session`.

use crate::admin::operations::sessions::{SessionIdentityKind, SessionQuery, SessionView};
use crate::cli::access::{Access, Missing};
use crate::cli::arguments::session::{SessionArguments, SessionCommand};
use crate::cli::{Failure, output};
use std::io::Write;

/// Sessions asked for at a time.
const PAGE: usize = 1000;

pub(super) fn run(arguments: &SessionArguments) -> Result<(), Failure> {
    let access = Access::open(&arguments.place, Missing::Refuse)?;
    let mut out = output::stdout();
    match &arguments.command {
        SessionCommand::List { device, limit } => {
            let mut left = limit.map_or(usize::MAX, |limit| limit as usize);
            let mut query = SessionQuery {
                device: device.clone(),
                ..SessionQuery::default()
            };
            let mut any = false;
            while left > 0 {
                query.limit = left.min(PAGE);
                let page = access.sessions(&query)?;
                left -= page.sessions.len().min(left);
                for session in &page.sessions {
                    if arguments.json {
                        output::write_json(&mut out, session)?;
                    } else {
                        write_line(&mut out, session, !any)?;
                    }
                    any = true;
                }
                query.after = page.next_after;
                if query.after.is_none() {
                    break;
                }
            }
            if !any && !arguments.json {
                writeln!(out, "no sessions")?;
            }
        }
        SessionCommand::Close { id } => {
            access.close_session(id)?;
            if arguments.json {
                output::write_json(&mut out, &serde_json::json!({ "closed": id }))?;
            } else {
                writeln!(out, "closed {}", output::printable(id))?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// A line of the table. Its columns fit what is usual: to fit all, all would have to be held.
fn write_line(out: &mut impl Write, session: &SessionView, heading: bool) -> std::io::Result<()> {
    let mut line = |fields: [&str; 7]| {
        let [id, peer, device, suite, connection_id, age, idle] = fields;
        writeln!(
            out,
            "{id:<12}  {peer:<21}  {device:<16}  {suite:<39}  {connection_id:<16}  {age:>8}  {idle}"
        )
    };
    if heading {
        line([
            "ID",
            "PEER",
            "DEVICE",
            "SUITE",
            "CONNECTION ID",
            "AGE",
            "IDLE",
        ])?;
    }
    let device = match (&session.device, session.identity) {
        (Some(name), _) => output::printable(name),
        (None, SessionIdentityKind::Anonymous) => "-".to_owned(),
        (None, SessionIdentityKind::Certificate) => "(certificate)".to_owned(),
        (None, SessionIdentityKind::PreSharedKey) => "(pre-shared key)".to_owned(),
    };
    let connection_id = if session.connection_id.is_empty() {
        "-"
    } else {
        &session.connection_id
    };
    line([
        &session.id,
        &session.peer,
        &device,
        &session.suite,
        connection_id,
        &duration(session.age_s),
        &duration(session.idle_s),
    ])
}

/// `59s`, `4m10s`, `3h07m`, `12d05h`.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if minutes == 0 {
        format!("{seconds}s")
    } else if hours == 0 {
        format!("{minutes}m{:02}s", seconds % 60)
    } else if days == 0 {
        format!("{hours}h{:02}m", minutes % 60)
    } else {
        format!("{days}d{:02}h", hours % 24)
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m00s"),
            (250, "4m10s"),
            (3600, "1h00m"),
            (11_220, "3h07m"),
            (86_399, "23h59m"),
            (1_054_800, "12d05h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
