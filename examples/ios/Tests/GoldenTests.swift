import XCTest

@testable import ViewfinderCamera

/// The app feeds the model rightly: camera frames with known answers get these answers.
final class GoldenTests: XCTestCase {
  private struct Golden: Decodable {
    struct Further: Decodable {
      let answer: [String]
      let probabilities: [String: Float32]
    }

    struct Picture: Decodable {
      let answer: String?
      let file: String
      let heads: [String: Further]?
      let height: Int
      let probabilities: [String: Float32]
      let width: Int
    }

    struct Camera: Decodable {
      let pictures: [Picture]
    }

    let camera: Camera
    let floor: Float32
    let max_factor: Float32
  }

  func testCameraFramesGetTheAnswersThatThePipelineGave() throws {
    let bundle = Bundle(for: GoldenTests.self)
    let folder = try XCTUnwrap(bundle.url(forResource: "golden", withExtension: nil))
    let golden = try JSONDecoder().decode(
      Golden.self, from: Data(contentsOf: folder.appendingPathComponent("golden.json")))
    XCTAssertFalse(golden.camera.pictures.isEmpty, "golden.json has no frames of a camera")
    let classifier = try Classifier(bundle: Bundle(for: Camera.self))
    for picture in golden.camera.pictures {
      let content = try Data(contentsOf: folder.appendingPathComponent(picture.file))
      XCTAssertEqual(content.count, picture.width * picture.height * 3 / 2, picture.file)
      let found = try classifier.answer(Frame(i420: content, width: picture.width, height: picture.height))
      XCTAssertEqual(found.first.names, picture.answer.map { [$0] } ?? [], picture.file)
      try compare(found.first, picture.probabilities, picture.file, golden)
      for said in found.further {
        let expected = try XCTUnwrap(picture.heads?[said.head.name])
        XCTAssertEqual(said.names, expected.answer, "\(picture.file) \(said.head.name)")
        try compare(said, expected.probabilities, "\(picture.file) \(said.head.name)", golden)
      }
    }
  }

  private func compare(_ said: Said, _ expected: [String: Float32], _ what: String, _ golden: Golden) throws {
    for (label, probability) in zip(said.head.labels, said.probabilities) {
      let wanted = try XCTUnwrap(expected[label])
      let factor = max(probability, golden.floor) / max(wanted, golden.floor)
      XCTAssertLessThan(max(factor, 1 / factor), golden.max_factor, "\(what): \(label)")
    }
  }
}
