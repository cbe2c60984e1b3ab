//! What can go wrong with a packet filter.

/// A failure to change or read a packet filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The kernel refused a request.
    #[error("cannot {op} packet filter {object}: {error}", error = std::io::Error::from_raw_os_error(*errno))]
    Kernel {
        /// What was tried.
        op: &'static str,
        /// On which table or port.
        object: String,
        /// The kernel's error number.
        errno: i32,
    },
    /// The kernel has no nf_tables for bridges, or lacks one of its expressions.
    #[error(
        "cannot {op} packet filter {object}: the kernel lacks nf_tables for bridges (CONFIG_NF_TABLES_BRIDGE): \
         load its module or run without a filter"
    )]
    Unsupported {
        /// What was tried.
        op: &'static str,
        /// On which table.
        object: String,
    },
    /// The rules do not fit into one change of the kernel's tables.
    #[error(
        "cannot {op} packet filter {object}: {bytes} bytes of rules are more than one change takes: join addresses into \
         prefixes and rules into lists, or raise net.core.wmem_max"
    )]
    TooLarge {
        /// What was tried.
        op: &'static str,
        /// On which table.
        object: String,
        /// How long the change would be.
        bytes: usize,
    },
    /// A name that no interface can have.
    #[error("bridge port {name:?} is not an interface name: 1 to 15 bytes without a slash")]
    PortName {
        /// The name.
        name: String,
    },
}

impl FilterError {
    pub(super) fn kernel(op: &'static str, object: &str, errno: i32) -> Self {
        let object = object.to_owned();
        match errno {
            libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT => {
                Self::Unsupported { op, object }
            }
            _ => Self::Kernel { op, object, errno },
        }
    }

    /// True when what was to be changed is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(
            self,
            Self::Kernel {
                errno: libc::ENOENT,
                ..
            }
        )
    }

    /// True when this machine cannot have packet filters on bridges at all.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. })
    }
}
