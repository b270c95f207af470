import CoreVideo
import Foundation
import TensorFlowLite

struct ClassifierError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}

/// A question that the model answers: the labels of its numbers, and from which probability on one is named.
struct Head {
  let name: String
  let output: Int
  let labels: [String]
  let threshold: Float32
  let mayNameSeveral: Bool

  /// Names labels: the likeliest one or none, or all that are likely enough where several may be true together.
  func named(_ probabilities: [Float32]) -> [String] {
    let likely = labels.indices.filter { probabilities[$0] >= threshold }
    let named = mayNameSeveral ? likely : Array(likely.sorted { probabilities[$0] > probabilities[$1] }.prefix(1))
    return named.map { labels[$0] }
  }
}

/// What a head says about a picture; `names` is empty if it is none of the labels.
struct Said {
  let head: Head
  let probabilities: [Float32]

  var names: [String] { head.named(probabilities) }
}

/// What the model says about a picture: what its first head says, and what further ones do, if it has any.
struct Answer {
  let first: Said
  let further: [Said]
}

/// What is needed of manifest.json.
struct Manifest: Decodable {
  struct Input: Decodable {
    let dtype: String
    let resize: String
    let shape: [Int]
  }

  struct Further: Decodable {
    let name: String
    let output: Int
    let kind: String
    let labels: [String]
    let threshold: Float32?
  }

  struct Output: Decodable {
    let threshold: Float32?  // nil where a label is always named
    let heads: [Further]?  // nil if the model answers one question
  }

  let input: Input
  let labels: [String]
  let output: Output

  /// The first names what the takes' folders are called.
  var heads: [Head] {
    let first = Head(name: "", output: 0, labels: labels, threshold: output.threshold ?? 0, mayNameSeveral: false)
    return [first]
      + (output.heads ?? []).map {
        Head(
          name: $0.name, output: $0.output, labels: $0.labels, threshold: $0.threshold ?? 0,
          mayNameSeveral: $0.kind == "many")
      }
  }
}

/// The deployed model in LiteRT, fed as manifest.json says. One thread at a time.
final class Classifier {
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
    let said: [Said] = try manifest.heads.map { head in
      let output = try model.output(at: head.output).data
      return Said(head: head, probabilities: output.withUnsafeBytes { Array($0.bindMemory(to: Float32.self)) })
    }
    return Answer(first: said[0], further: Array(said.dropFirst()))
  }
}
