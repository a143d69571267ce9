//! (skeleton)
mod stream;
