//! The bridge on a real store and the model of a Kafka broker over a real socket.

// One `cfg` for each module, because the lints that are relaxed in tests look for it.
#[cfg(test)]
mod flow;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod support;
