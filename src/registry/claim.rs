//! Devices that offer to be claimed (TB section 7.7).
//!
//! A device posts a secret; who knows it may have the device assigned to a customer, for a while.
//! The first offer counts until it ends, so that a second one cannot change the secret under the
//! user's hands. Offers live in memory: after a restart a device offers itself again.

use super::DeviceId;
use crate::crypto::secret::is_equal;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most offers at a time.
const OFFERS_MAX: usize = 100_000;
/// Longest secret, bytes.
pub const SECRET_BYTES_MAX: usize = 255;
/// Longest time that an offer can last, milliseconds: a year.
const DURATION_MAX_MS: u64 = 366 * 86_400_000;
/// Wrong secrets after which an offer ends: nobody guesses one.
const WRONG_SECRETS_MAX: u32 = 10;

/// The offers.
#[derive(Debug, Default)]
pub struct Claims(Mutex<HashMap<DeviceId, Offer>>);

struct Offer {
    secret: Box<str>,
    until_ms: u64,
    wrong_secrets: u32,
}

/// As many offers as there can be are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyOffers;

/// Why a claim failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// The device has not offered itself, or the offer has ended.
    NotOffered,
    /// The secret is another one.
    WrongSecret,
}

impl Claims {
    /// Notes an offer; while an earlier one is open it changes nothing.
    ///
    /// # Errors
    ///
    /// [`TooManyOffers`].
    pub fn offer(
        &self,
        device: DeviceId,
        secret: &str,
        duration_ms: u64,
        now_ms: u64,
    ) -> Result<(), TooManyOffers> {
        let mut offers = self.offers();
        if offers
            .get(&device)
            .is_some_and(|known| known.until_ms > now_ms)
        {
            return Ok(());
        }
        if offers.len() >= OFFERS_MAX {
            offers.retain(|_, offer| offer.until_ms > now_ms);
        }
        if offers.len() >= OFFERS_MAX {
            return Err(TooManyOffers);
        }
        let offer = Offer {
            secret: secret.into(),
            until_ms: now_ms.saturating_add(duration_ms.min(DURATION_MAX_MS)),
            wrong_secrets: 0,
        };
        offers.insert(device, offer);
        Ok(())
    }

    /// Until when the device can be claimed; `None`: it cannot.
    pub fn offered_until_ms(&self, device: DeviceId, now_ms: u64) -> Option<u64> {
        let offers = self.offers();
        let until = offers.get(&device)?.until_ms;
        (until > now_ms).then_some(until)
    }

    /// Takes an offer by its secret, and runs `assign`; the offer stays open when that fails.
    ///
    /// # Errors
    ///
    /// There is no offer, the secret is another one, or `assign` fails.
    pub fn claim<T, E: From<ClaimError>>(
        &self,
        device: DeviceId,
        secret: &str,
        now_ms: u64,
        assign: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut offers = self.offers();
        let offer = offers
            .get_mut(&device)
            .filter(|offer| offer.until_ms > now_ms)
            .ok_or(ClaimError::NotOffered)?;
        if !is_equal(offer.secret.as_bytes(), secret.as_bytes()) {
            offer.wrong_secrets += 1;
            if offer.wrong_secrets >= WRONG_SECRETS_MAX {
                offers.remove(&device);
            }
            return Err(ClaimError::WrongSecret.into());
        }
        let assigned = assign()?;
        offers.remove(&device);
        Ok(assigned)
    }

    /// Ends a device's offer.
    pub fn withdraw(&self, device: DeviceId) {
        self.offers().remove(&device);
    }

    fn offers(&self) -> MutexGuard<'_, HashMap<DeviceId, Offer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer")
            .field("until_ms", &self.until_ms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId(1);

    fn claim(claims: &Claims, secret: &str, now_ms: u64) -> Result<(), ClaimError> {
        claims.claim(DEVICE, secret, now_ms, || Ok(()))
    }

    #[test]
    fn the_first_offer_counts_while_it_lasts() {
        let claims = Claims::default();
        assert_eq!(claim(&claims, "", 0), Err(ClaimError::NotOffered));
        claims.offer(DEVICE, "one", 100, 0).unwrap();
        claims.offer(DEVICE, "two", 100, 50).unwrap();
        assert_eq!(claims.offered_until_ms(DEVICE, 99), Some(100));
        assert_eq!(claim(&claims, "two", 99), Err(ClaimError::WrongSecret));
        assert_eq!(claims.offered_until_ms(DEVICE, 100), None);
        assert_eq!(claim(&claims, "one", 100), Err(ClaimError::NotOffered));
        claims.offer(DEVICE, "two", u64::MAX, 100).unwrap();
        assert_eq!(
            claims.offered_until_ms(DEVICE, 101),
            Some(100 + DURATION_MAX_MS)
        );
        let failed = claims.claim(DEVICE, "two", 101, || Err::<(), _>(ClaimError::NotOffered));
        assert!(failed.is_err());
        assert_eq!(claim(&claims, "two", 101), Ok(()));
        assert_eq!(claim(&claims, "two", 101), Err(ClaimError::NotOffered));
    }

    #[test]
    fn a_secret_is_not_guessed() {
        let claims = Claims::default();
        claims.offer(DEVICE, "s", 100, 0).unwrap();
        for _ in 0..WRONG_SECRETS_MAX {
            assert_eq!(claim(&claims, "x", 0), Err(ClaimError::WrongSecret));
        }
        assert_eq!(claim(&claims, "s", 0), Err(ClaimError::NotOffered));
    }

    #[test]
    fn offers_are_bounded() {
        let claims = Claims::default();
        for number in 0..OFFERS_MAX as u64 {
            claims.offer(DeviceId(number), "", 100, 0).unwrap();
        }
        assert_eq!(
            claims.offer(DeviceId(u64::MAX), "", 100, 0),
            Err(TooManyOffers)
        );
        assert_eq!(claims.offer(DeviceId(u64::MAX), "", 100, 100), Ok(()));
    }
}
