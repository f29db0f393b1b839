//! Our codecs against the bytes that Xen's own header makes.

use super::*;
use xen_proto::vectors;

#[test]
fn transmit_request_has_the_headers_layout() {
    let request = TransmitRequest {
        grant: GrantReference(0x1122_3344),
        offset: 0x5566,
        flags: TransmitFlags::CHECKSUM_BLANK | TransmitFlags::MORE_DATA,
        id: 0x7788,
        size: 0x99aa,
    };
    let golden = golden::<TRANSMIT_SLOT_BYTES>("netif_tx_request");
    assert_eq!(request.to_bytes(), golden);
    assert_eq!(TransmitRequest::from_bytes(&golden), request);
}

#[test]
fn transmit_response_has_the_headers_layout() {
    let response = TransmitResponse {
        id: 0x7788,
        status: TransmitStatus::Error,
    };
    let golden = golden::<TRANSMIT_SLOT_BYTES>("netif_tx_response");
    assert_eq!(response.to_bytes(), golden);
    assert_eq!(TransmitResponse::from_bytes(&golden), response);
}

#[test]
fn receive_request_has_the_headers_layout() {
    let request = ReceiveRequest {
        id: 0x1122,
        grant: GrantReference(0x3344_5566),
    };
    let golden = golden::<RECEIVE_SLOT_BYTES>("netif_rx_request");
    assert_eq!(request.to_bytes(), golden);
    assert_eq!(ReceiveRequest::from_bytes(&golden), request);
}

#[test]
fn receive_response_has_the_headers_layout() {
    let response = ReceiveResponse {
        id: 0x1122,
        offset: 0x3344,
        flags: ReceiveFlags::DATA_VALIDATED | ReceiveFlags::EXTRA_INFO,
        status: -2,
    };
    let golden = golden::<RECEIVE_SLOT_BYTES>("netif_rx_response");
    assert_eq!(response.to_bytes(), golden);
    assert_eq!(ReceiveResponse::from_bytes(&golden), response);
}

#[test]
fn extra_info_has_the_headers_layout() {
    for (name, ip_version, segment_bytes, more) in [
        ("netif_extra_info", IpVersion::V4, 1448, true),
        ("netif_extra_info_ipv6", IpVersion::V6, 1220, false),
    ] {
        let segmentation = ExtraInfo {
            kind: ExtraKind::Segmentation(Segmentation {
                ip_version,
                segment_bytes: NonZeroU16::new(segment_bytes).unwrap(),
            }),
            more,
        };
        let golden = golden(name);
        assert_eq!(segmentation.to_bytes(), golden);
        assert_eq!(ExtraInfo::from_bytes(&golden), Ok(segmentation));
    }
    let expected = ExtraInfo {
        kind: ExtraKind::Ignored(4),
        more: false,
    };
    let hash = golden("netif_extra_info_hash");
    assert_eq!(ExtraInfo::from_bytes(&hash), Ok(expected));
}

#[test]
fn senseless_extra_info_is_refused() {
    let zero_size = [1, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(
        ExtraInfo::from_bytes(&zero_size),
        Err(ExtraInfoError::SegmentSizeZero)
    );
    for kind in [0, 3, 255] {
        let unknown = [1, 0, 0xb4, 5, kind, 0, 0, 0];
        assert_eq!(
            ExtraInfo::from_bytes(&unknown),
            Err(ExtraInfoError::UnknownSegmentation(kind))
        );
    }
    for number in [0, 6, 255] {
        let unknown = [number, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            ExtraInfo::from_bytes(&unknown),
            Err(ExtraInfoError::UnknownType(number))
        );
    }
}

#[test]
fn every_status_survives_the_wire() {
    for number in i16::MIN..=i16::MAX {
        assert_eq!(TransmitStatus::from_number(number).number(), number);
    }
}

#[test]
fn numbers_are_the_headers() {
    let number = |name| vectors::constant(name);
    for (flag, name) in [
        (TransmitFlags::CHECKSUM_BLANK, "NETTXF_csum_blank"),
        (TransmitFlags::DATA_VALIDATED, "NETTXF_data_validated"),
        (TransmitFlags::MORE_DATA, "NETTXF_more_data"),
        (TransmitFlags::EXTRA_INFO, "NETTXF_extra_info"),
    ] {
        assert_eq!(i64::from(flag.bits()), number(name), "{name}");
    }
    for (flag, name) in [
        (ReceiveFlags::DATA_VALIDATED, "NETRXF_data_validated"),
        (ReceiveFlags::CHECKSUM_BLANK, "NETRXF_csum_blank"),
        (ReceiveFlags::MORE_DATA, "NETRXF_more_data"),
        (ReceiveFlags::EXTRA_INFO, "NETRXF_extra_info"),
        (ReceiveFlags::SEGMENTATION_PREFIX, "NETRXF_gso_prefix"),
    ] {
        assert_eq!(i64::from(flag.bits()), number(name), "{name}");
    }
    for (status, name) in [
        (TransmitStatus::Okay, "NETIF_RSP_OKAY"),
        (TransmitStatus::Error, "NETIF_RSP_ERROR"),
        (TransmitStatus::Dropped, "NETIF_RSP_DROPPED"),
        (TransmitStatus::Null, "NETIF_RSP_NULL"),
    ] {
        assert_eq!(i64::from(status.number()), number(name), "{name}");
    }
    for (ours, name) in [
        (RING_SLOTS, "NET_TX_RING_SIZE"),
        (RING_SLOTS, "NET_RX_RING_SIZE"),
        (MAXIMUM_SLOTS_PER_PACKET, "XEN_NETIF_NR_SLOTS_MIN"),
        (MAXIMUM_TRANSMIT_BYTES, "XEN_NETIF_MAX_TX_SIZE"),
        // Of Xen's header one less, which does not know Linux's own type.
        (ExtraInfo::KINDS, "XEN_NETIF_EXTRA_TYPE_MAX"),
    ] {
        assert_eq!(i64::try_from(ours), Ok(number(name)), "{name}");
    }
    assert_eq!(TRANSMIT_SLOT_BYTES, vectors::size("netif_tx_sring_entry"));
    assert_eq!(RECEIVE_SLOT_BYTES, vectors::size("netif_rx_sring_entry"));
}

/// An example of the header's, with zeros up to the end of the slot.
fn golden<const BYTES: usize>(name: &str) -> [u8; BYTES] {
    let bytes = vectors::bytes(name);
    let mut slot = [0; BYTES];
    slot[..bytes.len()].copy_from_slice(&bytes);
    slot
}
