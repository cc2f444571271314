//! How a type becomes part of the contract: [`shared!`](crate::shared) for map keys and values, [`reasons!`](crate::reasons) for
//! numbered lists with a text each.

/// One field of a shared type, as the layout page prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLayout {
    /// Name in the source.
    pub name: &'static str,
    /// Bytes from the start of the type.
    pub offset: usize,
    /// Bytes it takes.
    pub size: usize,
}

/// The layout of one shared type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Type name.
    pub name: &'static str,
    /// Bytes it takes.
    pub size: usize,
    /// Its fields, in order.
    pub fields: &'static [FieldLayout],
}

/// A field of a shared type, for printing.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// An integer.
    Number(u64),
    /// A network address.
    Addr(crate::addr::Addr),
    /// A link-layer address.
    Mac(crate::addr::Mac),
    /// Raw bytes in packet order; two of them are a port, four an IPv4 address.
    Bytes(&'a [u8]),
    /// A name or a sentence.
    Text(&'static str),
    /// A name that somebody gave.
    Name(&'a str),
    /// A struct inside the struct.
    Record(&'a dyn Record),
}

/// Something that may be a field.
pub trait Field {
    /// It, for printing.
    fn value(&self) -> Value<'_>;
}

/// Something that has named fields.
pub trait Record {
    /// Calls `visit` with each field in order.
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'static str, Value<'a>));
}

/// Declares plain C structs that both sides copy byte by byte, and how to print them.
///
/// A hole between or after the fields is a compile error: the kernel compares map keys as raw
/// bytes, so padding that nobody writes would make equal keys differ.
#[macro_export]
macro_rules! shared {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident {
            $( $(#[$field_doc:meta])* pub $field:ident : $ty:ty ),* $(,)?
        }
    )*) => { $(
        plain_struct! { $(#[$doc])* pub struct $name { $( $(#[$field_doc])* pub $field : $ty ),* } }

        impl $crate::abi::Record for $name {
            fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'static str, $crate::abi::Value<'a>)) {
                $( visit(stringify!($field), $crate::abi::Field::value(&self.$field)); )*
            }
        }

        impl $crate::abi::Field for $name {
            fn value(&self) -> $crate::abi::Value<'_> { $crate::abi::Value::Record(self) }
        }
    )* };
}

/// The layout half of [`shared!`]: one struct without padding, and how aya may copy it.
macro_rules! plain_struct {
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            $( $(#[$field_doc:meta])* pub $field:ident : $ty:ty ),* $(,)?
        }
    ) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name { $( $(#[$field_doc])* pub $field : $ty ),* }

        const _: () = assert!(
            core::mem::size_of::<$name>() == 0 $( + core::mem::size_of::<$ty>() )*,
            concat!(stringify!($name), " has hidden padding"),
        );
        const _: () = {
            const fn shared<T: $crate::abi::Shared>() {}
            $( shared::<$ty>(); )*
        };

        // SAFETY: `repr(C)`, `Copy`, no padding, every field is `Shared`: all three checked above.
        #[expect(unsafe_code, reason = "states the layout promise that the assertions check")]
        unsafe impl $crate::abi::Shared for $name {}

        // SAFETY: as above; aya's `Pod` asks for nothing more.
        #[cfg(feature = "user")]
        #[expect(unsafe_code, reason = "the impl must stand in the crate of the type")]
        unsafe impl aya::Pod for $name {}

        impl Default for $name {
            fn default() -> Self {
                Self::ZERO
            }
        }

        impl $name {
            /// Where each field lies.
            pub const LAYOUT: $crate::abi::Layout = $crate::abi::Layout {
                name: stringify!($name),
                size: core::mem::size_of::<Self>(),
                fields: &[ $( $crate::abi::FieldLayout {
                    name: stringify!($field),
                    offset: core::mem::offset_of!(Self, $field),
                    size: core::mem::size_of::<$ty>(),
                } ),* ],
            };

            /// All bytes zero: the value of a map element that nobody wrote.
            pub const ZERO: Self = {
                // SAFETY: all-zero bytes are a value of every `Shared` type.
                #[expect(unsafe_code, reason = "the one way to zero any struct in const context")]
                unsafe { core::mem::zeroed() }
            };
        }
    };
}

/// Plain bytes: no padding, no invalid bit pattern.
///
/// # Safety
/// Implement it only for types of which that is true; [`shared!`] checks it for structs.
#[expect(unsafe_code, reason = "a promise about layout that the compiler cannot check")]
pub unsafe trait Shared: Copy + 'static {}

macro_rules! plain {
    ($($ty:ty),*) => { $(
        // SAFETY: an integer has no padding and no invalid bit pattern.
        #[expect(unsafe_code, reason = "see the trait")]
        unsafe impl Shared for $ty {}
    )* };
}
plain!(u8, u16, u32, u64);

macro_rules! numbers {
    ($($ty:ty),*) => { $(
        impl Field for $ty {
            fn value(&self) -> Value<'_> { Value::Number(u64::from(*self)) }
        }
    )* };
}
numbers!(u8, u16, u32, u64);

impl<const N: usize> Field for [u8; N] {
    fn value(&self) -> Value<'_> {
        Value::Bytes(self)
    }
}

// SAFETY: an array adds no padding to its elements.
#[expect(unsafe_code, reason = "see the trait")]
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}

/// Declares a numbered list: the enum, its texts, its names, and `ALL` in order.
///
/// The numbers are wire: they index per-CPU arrays that outlive the daemon. Append, never reuse.
#[macro_export]
macro_rules! reasons {
    (
        $(#[$doc:meta])*
        pub enum $name:ident {
            $( $(#[doc = $text:literal])+ $variant:ident = $number:literal ),* $(,)?
        }
    ) => {
        $(#[$doc])*
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[doc = $text])+ $variant = $number ),* }

        impl $name {
            /// Every value, in the order of the source.
            pub const ALL: &'static [Self] = &[ $( Self::$variant ),* ];

            /// One more than the highest number: the length of an array indexed by it.
            pub const COUNT: u32 = {
                let mut count = 0;
                $( if $number + 1 > count { count = $number + 1; } )*
                count
            };

            /// The name in the source, as counters and JSON spell it.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => stringify!($variant) ),* }
            }

            /// What it means, for people.
            pub const fn describe(self) -> &'static str {
                match self { $( Self::$variant => concat!($($text),+) ),* }
            }

            /// The value of a number read from a map.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $( $number => Some(Self::$variant), )* _ => None }
            }
        }
    };
}
