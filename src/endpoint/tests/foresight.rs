//! The look ahead changes nothing but the time that it takes.

use super::*;
use crate::random::Random;

/// Two endpoints get the same, one of them after a look ahead. There are four places for more peers
/// than that, so that guesses go stale within their group; and now and then a datagram that was foreseen
/// does not come.
#[test]
fn a_look_ahead_changes_nothing() {
    let mut blind = endpoint(|_| {});
    let mut seeing = endpoint(|_| {});
    let mut random = SeededRandom::new(5);
    let mut answered = 0;
    for turn in 0..500 {
        let now = at(turn);
        let batch: Vec<(SocketAddr, Vec<u8>)> = (0..random.below(AHEAD as u64 + 1))
            .map(|_| {
                let mut message = POST.to_vec();
                message[3] = random.below(50) as u8;
                (peer(1 + random.below(7) as u16), message)
            })
            .collect();
        seeing.foresee(&mut batch.iter().map(|(from, _)| (*from, Port::Plain.into())));
        let lost = random.below(40) as usize;
        let came = batch.iter().enumerate().filter(|(index, _)| *index != lost);
        for (_, (from, message)) in came {
            let mut one = receive(&mut blind, now, *from, message);
            let mut other = receive(&mut seeing, now, *from, message);
            assert_eq!(sent(&one), sent(&other), "turn {turn}");
            assert_eq!(one.requests, other.requests, "turn {turn}");
            let verdicts: Vec<_> = one.requests.drain(..).map(|r| answer(&r, 0x41)).collect();
            answered += verdicts.len();
            seeing.foresee_verdicts(&verdicts);
            other.clear_transmits();
            one.clear_transmits();
            for verdict in verdicts {
                blind.handle_verdict(now, verdict.clone(), &mut one);
                seeing.handle_verdict(now, verdict, &mut other);
            }
            assert_eq!(sent(&one), sent(&other), "turn {turn}");
        }
    }
    assert!(answered > 1000, "{answered}");
}
