//! Closed sets of label values.
//!
//! A label's value comes from one of these enums, from a manifest (app), from the configuration (listener), or from a
//! table of the program (command, code), so that no client can make new series.

/// A closed set of label values.
pub trait Label: Copy + Sized + 'static {
    /// Every value, in the order of [`Label::position`].
    const ALL: &'static [Self];
    /// The value as it stands in the exposition.
    fn text(self) -> &'static str;
    /// The place of this value in [`Label::ALL`].
    fn position(self) -> usize;
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            fn text(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }

            fn position(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// How a command ended, seen by the client.
    CommandOutcome {
        /// The reply said `ok: 1`.
        Ok = "ok",
        /// The upstream server said no; its words were passed on.
        Error = "error",
        /// The proxy said no and sent nothing upstream.
        Refused = "refused",
        /// No reply could be had from the upstream.
        UpstreamError = "upstream_error",
    }
}

label! {
    /// Why a client connection ended.
    CloseReason {
        /// The client closed it.
        Client = "client",
        /// The client sent something that is no message.
        Protocol = "protocol",
        /// The handshake did not end in time.
        HandshakeTimeout = "handshake_timeout",
        /// It was idle for longer than is allowed.
        Idle = "idle",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The credential was wrong, or has changed or gone since.
        Authentication = "authentication",
        /// A limit was reached, and it was shed: of connections, or of replies that its client does not read.
        Limit = "limit",
        /// The socket failed.
        Io = "io",
        /// The proxy is draining.
        Drain = "drain",
        /// Its task panicked.
        Panic = "panic",
    }
}

label! {
    /// How an authentication ended.
    AuthenticationOutcome {
        /// The proof was right.
        Ok = "ok",
        /// The proof was wrong, or there is no such user; the two are one on purpose.
        Failed = "failed",
        /// The exchange was not begun: unknown mechanism, malformed payload, or too many attempts.
        Refused = "refused",
    }
}

label! {
    /// The mechanism of an authentication.
    Mechanism {
        /// SCRAM-SHA-256.
        ScramSha256 = "SCRAM-SHA-256",
        /// SCRAM-SHA-1.
        ScramSha1 = "SCRAM-SHA-1",
        /// A client certificate.
        X509 = "MONGODB-X509",
        /// Anything else a client may have named.
        Other = "other",
    }
}

label! {
    /// A limit, by its key in the configuration.
    LimitName {
        /// Connections of the process.
        Connections = "connections_max",
        /// Connections from one address.
        ConnectionsPerAddress = "connections_per_address_max",
        /// Connections that have not logged in.
        ConnectionsUnauthenticated = "connections_unauthenticated_max",
        /// Connections of one app.
        ConnectionsPerApp = "connections_per_app_max",
        /// Failed log-ins from one address in a minute.
        FailedLoginsPerAddress = "failed_logins_per_address_max",
        /// Commands of one app at the same time.
        CommandsPerApp = "commands_per_app_max",
        /// Cursors of one app.
        CursorsPerApp = "cursors_per_app_max",
        /// Sessions of one app.
        SessionsPerApp = "sessions_per_app_max",
        /// Bytes of replies of one app that its clients have not read.
        UnreadBytesPerApp = "unread_bytes_per_app_max",
        /// Commands that wait for a member.
        Waiting = "waiting_max",
    }
}

label! {
    /// How a reload ended.
    ReloadOutcome {
        /// What was read is in force.
        Ok = "ok",
        /// Something is wrong with the files; what was in force before is still.
        Failed = "failed",
    }
}

label! {
    /// What an upstream connection is doing.
    ConnectionState {
        /// In the pool.
        Idle = "idle",
        /// Lent to a command.
        InUse = "in_use",
        /// Being made: connecting, greeting, logging in.
        Connecting = "connecting",
    }
}

label! {
    /// What an upstream connection is held for. Each is held for one command at a time.
    LeasePurpose {
        /// A `getMore`, which may wait for documents.
        Cursor = "cursor",
        /// A statement or the end of a transaction.
        Transaction = "transaction",
        /// Any other command.
        Command = "command",
    }
}

label! {
    /// What a command waits for in the proxy.
    WaitsFor {
        /// A member that suits it, as during an election.
        Member = "member",
        /// A connection to come free.
        Connection = "connection",
    }
}

label! {
    /// Why an upstream connection was closed. The words follow the connection pool specification (CMAP) where it has them.
    UpstreamCloseReason {
        /// It was idle for longer than the idle timeout.
        Idle = "idle",
        /// Its pool generation is past.
        Stale = "stale",
        /// The socket failed or the server closed it.
        Error = "error",
        /// Its lease was dropped in the middle of an exchange, so the next reply on it would be the wrong one.
        Poisoned = "poisoned",
        /// Its pool was closed.
        PoolClosed = "pool_closed",
    }
}

label! {
    /// Why no connection could be lent.
    CheckoutFailure {
        /// No connection became free before the deadline.
        Timeout = "timeout",
        /// No server fits the read preference.
        NoServer = "no_server",
        /// A new connection could not be opened or authenticated.
        Connection = "connection",
        /// The pool is closed.
        PoolClosed = "pool_closed",
        /// Too many commands waited for a server already.
        Overload = "overload",
    }
}

label! {
    /// What was done about an index of a manifest.
    IndexChange {
        /// One that was not there was built.
        Built = "built",
        /// Another one was built in place of one of the same name.
        Replaced = "replaced",
        /// Its expiry was changed, or it was hidden or shown.
        Modified = "modified",
        /// One that is asked for no more was dropped.
        Dropped = "dropped",
        /// It could not be done; it is tried again.
        Failed = "failed",
    }
}

label! {
    /// What became of an automatic index.
    IndexEvent {
        /// Shapes asked for an index that is not there.
        Candidate = "candidate",
        /// It was built.
        Build = "build",
        /// Building it failed.
        Failure = "failure",
        /// It did not prove itself, and was hidden.
        Revert = "revert",
        /// It was no longer used, and was hidden.
        Hide = "hide",
        /// It was missed while it was hidden, and is shown again.
        Readopt = "readopt",
        /// It was dropped.
        Drop = "drop",
    }
}

label! {
    /// What went wrong while a command was exchanged for its reply.
    ExchangeErrorKind {
        /// Writing or reading failed.
        Io = "io",
        /// The server closed the connection.
        Closed = "closed",
        /// The reply did not come before the deadline.
        Timeout = "timeout",
        /// The reply was malformed or answered another message.
        Protocol = "protocol",
    }
}
