import XCTest

@testable import ViewfinderCamera

/// The app feeds the model rightly: camera frames with known answers get these answers.
final class GoldenTests: XCTestCase {
  private struct Golden: Decodable {
    struct Picture: Decodable {
      let answer: String?
      let file: String
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
      XCTAssertEqual(found.label, picture.answer, picture.file)
      for (label, probability) in zip(classifier.labels, found.probabilities) {
        let expected = try XCTUnwrap(picture.probabilities[label])
        let factor = max(probability, golden.floor) / max(expected, golden.floor)
        XCTAssertLessThan(max(factor, 1 / factor), golden.max_factor, "\(picture.file): \(label)")
      }
    }
  }
}
