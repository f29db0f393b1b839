use super::*;

#[test]
fn transmit_request_has_the_headers_layout() {
    let request = TransmitRequest {
        grant: GrantReference(0x0102_0304),
        offset: 0x0506,
        flags: TransmitFlags::CHECKSUM_BLANK
            | TransmitFlags::DATA_VALIDATED
            | TransmitFlags::MORE_DATA,
        id: 0x0708,
        size: 0x090a,
    };
    let golden = [
        0x04, 0x03, 0x02, 0x01, 0x06, 0x05, 0x07, 0x00, 0x08, 0x07, 0x0a, 0x09,
    ];
    assert_eq!(request.to_bytes(), golden);
    assert_eq!(TransmitRequest::from_bytes(&golden), request);
}

#[test]
fn transmit_response_has_the_headers_layout() {
    let response = TransmitResponse {
        id: 0x0102,
        status: TransmitStatus::Dropped,
    };
    let golden = [0x02, 0x01, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(response.to_bytes(), golden);
    assert_eq!(TransmitResponse::from_bytes(&golden), response);
}

#[test]
fn receive_request_has_the_headers_layout() {
    let request = ReceiveRequest {
        id: 0x0102,
        grant: GrantReference(0x0304_0506),
    };
    let golden = [0x02, 0x01, 0x00, 0x00, 0x06, 0x05, 0x04, 0x03];
    assert_eq!(request.to_bytes(), golden);
    assert_eq!(ReceiveRequest::from_bytes(&golden), request);
}

#[test]
fn receive_response_has_the_headers_layout() {
    let response = ReceiveResponse {
        id: 0x0102,
        offset: 0x0304,
        flags: ReceiveFlags::CHECKSUM_BLANK
            | ReceiveFlags::MORE_DATA
            | ReceiveFlags::SEGMENTATION_PREFIX,
        status: -14,
    };
    let golden = [0x02, 0x01, 0x04, 0x03, 0x16, 0x00, 0xf2, 0xff];
    assert_eq!(response.to_bytes(), golden);
    assert_eq!(ReceiveResponse::from_bytes(&golden), response);
}

#[test]
fn extra_info_has_the_headers_layout() {
    let segmentation = ExtraInfo {
        kind: ExtraKind::Segmentation {
            kind: SegmentationKind::Tcp6,
            segment_bytes: 0x05b4,
        },
        more: true,
    };
    let golden = [0x01, 0x01, 0xb4, 0x05, 0x02, 0x00, 0x00, 0x00];
    assert_eq!(segmentation.to_bytes(), golden);
    assert_eq!(ExtraInfo::from_bytes(&golden), Ok(segmentation));

    let hash = [0x04, 0x00, 0x01, 0x01, 0x11, 0x22, 0x33, 0x44];
    let expected = ExtraInfo {
        kind: ExtraKind::Ignored(4),
        more: false,
    };
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
fn checksum_bits_are_swapped_between_the_directions() {
    assert_eq!(TransmitFlags::CHECKSUM_BLANK.bits(), 1);
    assert_eq!(TransmitFlags::DATA_VALIDATED.bits(), 2);
    assert_eq!(ReceiveFlags::DATA_VALIDATED.bits(), 1);
    assert_eq!(ReceiveFlags::CHECKSUM_BLANK.bits(), 2);
}
