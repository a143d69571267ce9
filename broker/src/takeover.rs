//! A client that connects again takes its session over from its older connection (3.1.4).
//!
//! The older connection is closed, with DISCONNECT 0x8E in MQTT 5, and its will is published: it
//! did not say good-bye. What it had published and is not yet acknowledged stays on its way to
//! flash; the client sends it again, which QoS 1 allows.

use std::rc::Rc;
use std::time::Instant;

use mqtt::ReasonCode;

use crate::client::SessionCount;
use crate::router::Router;
use crate::session::Session;

impl Router {
    /// Ends the session of the older connection. Its task does the rest.
    pub(crate) fn take_over(&self, now: Instant, older: &Rc<Session>) {
        if let Some(left_out) = self.log_limits.takeover.pass(now) {
            let client_id = older.client().client_id;
            let older = older.connection.id;
            tracing::info!(client_id, %older, left_out, "Client connected again: taken over.");
        }
        self.end_session(older);
        older.connection.disconnect(ReasonCode::SessionTakenOver);
    }

    /// Ends a session: it has no subscriptions any more and is nobody's. Once is enough.
    pub(crate) fn end_session(&self, session: &Session) {
        if session.has_ended.replace(true) {
            return;
        }
        self.sessions.borrow_mut().remove(session);
        self.count_session(session.version, SessionCount::Ended);
        let filters = session.filters.take();
        let mut subscriptions = self.subscriptions.borrow_mut();
        let mut had_any = false;
        for filter in filters.iter() {
            had_any |= subscriptions.remove(filter, session.connection.id);
        }
        drop(subscriptions);
        if had_any {
            self.forget_routes();
        }
    }
}
