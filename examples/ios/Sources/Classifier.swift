import CoreVideo
import Foundation
import TensorFlowLite

struct ClassifierError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}

/// What the model says about a picture: `label` is nil if it shows none of the labels.
struct Answer {
  let label: String?
  let probability: Float32
  let probabilities: [Float32]
}

/// What is needed of manifest.json.
struct Manifest: Decodable {
  struct Input: Decodable {
    let dtype: String
    let resize: String
    let shape: [Int]
  }

  struct Output: Decodable {
    let threshold: Float32?
  }

  let input: Input
  let labels: [String]
  let output: Output
}

/// The deployed model in LiteRT, fed as manifest.json says. One thread at a time.
final class Classifier {
  let labels: [String]
  private let manifest: Manifest
  private let model: Interpreter
  private let side: Int

  init(bundle: Bundle) throws {
    guard let file = bundle.url(forResource: "manifest", withExtension: "json"),
      let path = bundle.path(forResource: "model", ofType: "tflite")
    else { throw ClassifierError("no model in the app: run `make repro`, then generate the project again") }
    manifest = try JSONDecoder().decode(Manifest.self, from: Data(contentsOf: file))
    guard manifest.input.resize == "stretch" || manifest.input.resize == "crop" else {
      throw ClassifierError("the model wants resize: \(manifest.input.resize), which camera_input does not do")
    }
    labels = manifest.labels
    side = manifest.input.shape[1]
    model = try Interpreter(modelPath: path)
    try model.allocateTensors()
  }

  /// Answers a frame as the camera gives it.
  func answer(_ frame: Frame) throws -> Answer {
    var bytes = [UInt8](repeating: 0, count: side * side * 3)
    frame.withPlanes { planes in
      var planes = planes
      camera_input(&planes, manifest.input.resize == "crop", Int32(side), &bytes)
    }
    if manifest.input.dtype == "float32" {  // the same numbers, 0 to 255
      let floats = bytes.map(Float32.init)
      try model.copy(floats.withUnsafeBufferPointer { Data(buffer: $0) }, toInputAt: 0)
    } else {
      try model.copy(Data(bytes), toInputAt: 0)
    }
    try model.invoke()
    let probabilities = try model.output(at: 0).data.withUnsafeBytes { Array($0.bindMemory(to: Float32.self)) }
    guard let best = probabilities.indices.max(by: { probabilities[$0] < probabilities[$1] }) else {
      throw ClassifierError("the model gives no probability")
    }
    let isNamed = probabilities[best] >= manifest.output.threshold ?? 0
    return Answer(
      label: isNamed ? labels[best] : nil, probability: probabilities[best], probabilities: probabilities)
  }
}
