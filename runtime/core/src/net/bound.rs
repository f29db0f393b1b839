//! Sockets by the port they are bound to.

use alloc::rc::Rc;
use alloc::vec::Vec;

use crate::memory::{self, OutOfMemory};

/// Sockets in ascending order of their ports, those of one port in the order in which they came. The ports are
/// the program's, not the peers', so there are few.
pub(super) struct Bound<T>(Vec<(u16, Rc<T>)>);

impl<T> Default for Bound<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Bound<T> {
    /// Adds one, if there is memory for it.
    pub(super) fn add(&mut self, port: u16, socket: T) -> Result<Rc<T>, OutOfMemory> {
        self.0.try_reserve(1)?;
        let socket = memory::shared(socket)?;
        let place = self.0.partition_point(|(other, _)| *other <= port);
        self.0.insert(place, (port, socket.clone()));
        Ok(socket)
    }

    pub(super) fn remove(&mut self, socket: &Rc<T>) {
        self.0.retain(|(_, other)| !Rc::ptr_eq(other, socket));
    }

    /// Those of one port.
    pub(super) fn at(&self, port: u16) -> impl Iterator<Item = &Rc<T>> {
        let first = self.0.partition_point(|(other, _)| *other < port);
        let same = self.0[first..].iter();
        same.take_while(move |(other, _)| *other == port)
            .map(|(_, socket)| socket)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<T>> {
        self.0.iter().map(|(_, socket)| socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_its_own_sockets_only() {
        let mut bound = Bound::default();
        let ports = (0..6).zip([7, 9, 7, 3, 9, 7]);
        let sockets: Vec<Rc<u32>> = ports
            .map(|(socket, port)| bound.add(port, socket).unwrap())
            .collect();
        let at = |bound: &Bound<u32>, port| -> Vec<u32> {
            bound.at(port).map(|socket| **socket).collect()
        };
        assert_eq!(at(&bound, 7), Vec::from([0, 2, 5]));
        assert_eq!(at(&bound, 9), Vec::from([1, 4]));
        assert_eq!(at(&bound, 8), Vec::new());
        bound.remove(&sockets[2]);
        assert_eq!(at(&bound, 7), Vec::from([0, 5]));
        assert_eq!(bound.iter().count(), 5);
    }
}
