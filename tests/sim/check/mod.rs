//! What must hold whatever happens. Each checker watches for itself and panics when it sees a breach.

mod bounds;
mod door;
mod effects;
mod nonces;
mod wire;

pub(crate) use bounds::{check_bounds, check_end};
pub(crate) use door::Door;
pub(crate) use effects::Effects;
pub(crate) use nonces::Nonces;
pub(crate) use wire::{Record, records};
