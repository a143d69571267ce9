//! What an input of this target is: options, then operations.
//!
//! ```text
//! | options, 1 | operation, 1 | argument, 1 | operation, 1 | argument, 1 | …
//! ```
//! Behind `raw` stand as many bytes from the client as its argument says. Any bytes are an input: an
//! operation is its byte modulo their number, and an argument means something to every operation.

/// One operation with its argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation<'i> {
    /// Which.
    pub kind: Kind,
    /// How; for `raw` the number of bytes.
    pub argument: u8,
    /// The bytes of `raw`, else none.
    pub bytes: &'i [u8],
}

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident, $text:literal;)+) => {
        /// The operations: first what the client does, then the broker, then time and transport.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])+ $name,)+
        }

        impl Kind {
            /// Every operation; its place is its byte in an input.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The word that stands for it in a seed.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

kinds! {
    /// The client sends these bytes.
    Raw, "raw";
    /// CONNECT; bits 0 and 1: version 5, 5, 3.1.1, 3.1; 2 small Receive Maximum; 3 small Maximum
    /// Packet Size; 4 Topic Alias Maximum 5 (before 5: no client identifier); 5 will, Topic Alias
    /// Maximum 1; 6 no problem information, session expiry; 7 keep alive.
    Connect, "connect";
    /// PUBLISH of QoS 0; bits 0 to 2 identifier less one, 3 DUP, 4 and 5 alias, 6 without a name, 7
    /// retain.
    ClientPublish0, "client-publish-0";
    /// The same with QoS 1.
    ClientPublish1, "client-publish-1";
    /// The same with QoS 2.
    ClientPublish2, "client-publish-2";
    /// PUBACK; bits 0 to 4 which delivery, 5 or any identifier, 6 another code, 7 a failure.
    ClientPuback, "client-puback";
    /// PUBREC, as PUBACK.
    ClientPubrec, "client-pubrec";
    /// PUBREL; bits 0 to 2 identifier less one, 7 a failure.
    ClientPubrel, "client-pubrel";
    /// PUBCOMP, as PUBACK.
    ClientPubcomp, "client-pubcomp";
    /// SUBSCRIBE; bits 0 to 2 identifier less one, 3 and 4 filters less one.
    ClientSubscribe, "client-subscribe";
    /// UNSUBSCRIBE, as SUBSCRIBE.
    ClientUnsubscribe, "client-unsubscribe";
    /// PINGREQ.
    ClientPing, "client-ping";
    /// DISCONNECT; bit 0 with will, 1 with session expiry.
    ClientDisconnect, "client-disconnect";
    /// So many bytes of what the client sends next come later.
    Cut, "cut";
    /// What the client has sent and was not read.
    Deliver, "deliver";
    /// Accepts; bit 0 session present, 1 server keep alive, 2 assigned identifier, 3 session
    /// expiry, 4 reason string, 5 response information.
    Accept, "accept";
    /// Accepts with six deliveries of an earlier connection: a state for every two bits.
    AcceptLeft, "accept-left";
    /// Refuses with this reason code.
    Refuse, "refuse";
    /// Takes so many events; 0 takes all.
    Poll, "poll";
    /// The run loop: reads and takes events until nothing comes.
    Turn, "turn";
    /// Success for this ticket; bit 7 with a reason string.
    CompletePublish, "complete-publish";
    /// This reason code for the oldest open ticket.
    FailPublish, "fail-publish";
    /// Suspends this ticket.
    Suspend, "suspend";
    /// Success for this ticket; with bit 7 0x92, with bit 6 a code that PUBCOMP does not carry.
    CompleteRelease, "complete-release";
    /// Answers the ticket; bits 4 and 5: granted, failure first, too few codes, a wrong code.
    CompleteSubscribe, "complete-subscribe";
    /// The same.
    CompleteUnsubscribe, "complete-unsubscribe";
    /// A message of QoS 0 to the client; bits 0 and 1 topic, 2 to 4 size, 5 expiry, 6 retain, 7
    /// subscription identifiers.
    Publish0, "publish-0";
    /// The same with QoS 1.
    Publish1, "publish-1";
    /// An identifier for QoS 2, with bit 0 for QoS 1.
    Reserve, "reserve";
    /// A message under this reserved identifier; with bit 7 under any.
    PublishReserved, "publish-reserved";
    /// Gives a reserved identifier back.
    Cancel, "cancel";
    /// Allows the PUBREL of this delivery; with bit 7 of any.
    Release, "release";
    /// Resends this delivery of an earlier connection.
    Resend, "resend";
    /// Gives it up.
    Forget, "forget";
    /// The broker ends the connection with this reason code.
    Disconnect, "disconnect";
    /// So many tenths of a second pass, and the timers are looked at.
    Wait, "wait";
    /// So many tenths of a second pass unnoticed.
    Pass, "pass";
    /// Sixteen times so many bytes are written.
    Transmit, "transmit";
    /// The next chunk is taken.
    TransmitChunk, "transmit-chunk";
    /// No more input; with bit 0 again.
    Pause, "pause";
    /// The transport ends.
    EndOfStream, "end-of-stream";
}

impl Kind {
    /// The operation that a byte stands for.
    pub fn of(byte: u8) -> Self {
        let index = usize::from(byte) % Self::ALL.len();
        Self::ALL.get(index).copied().unwrap_or(Self::Raw)
    }

    /// The operation with this name.
    pub fn named(name: &str) -> Option<Self> {
        let mut kinds = Self::ALL.iter().copied();
        kinds.find(|kind| kind.name() == name)
    }
}

/// The options and the operations of an input.
pub fn split(input: &[u8]) -> (u8, Vec<Operation<'_>>) {
    let Some((&options, mut rest)) = input.split_first() else {
        return (0, Vec::new());
    };
    let mut operations = Vec::new();
    while let [kind, argument, tail @ ..] = rest {
        let kind = Kind::of(*kind);
        let len = match kind {
            Kind::Raw => usize::from(*argument).min(tail.len()),
            _ => 0,
        };
        let (bytes, tail) = tail.split_at(len);
        operations.push(Operation {
            kind,
            argument: *argument,
            bytes,
        });
        rest = tail;
    }
    (options, operations)
}

/// The input of some operations.
pub fn join<'i>(options: u8, operations: impl IntoIterator<Item = Operation<'i>>) -> Vec<u8> {
    let mut input = vec![options];
    for operation in operations {
        let place = Kind::ALL.iter().position(|kind| *kind == operation.kind);
        let place = place.and_then(|place| u8::try_from(place).ok());
        let argument = match operation.kind {
            Kind::Raw => u8::try_from(operation.bytes.len()).unwrap_or(u8::MAX),
            _ => operation.argument,
        };
        input.extend([place.unwrap_or_default(), argument]);
        input.extend(operation.bytes.iter().take(usize::from(argument)));
    }
    input
}
