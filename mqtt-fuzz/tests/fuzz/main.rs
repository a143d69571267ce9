//! The short form of fuzzing: every seed, and mutations of them for a while.

// One `cfg` for each module, because the lints that are relaxed in tests look for it.
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod seeds;
