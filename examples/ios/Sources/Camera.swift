import AVFoundation
import Combine
import Foundation

/// Gives the camera's frames to the model, one after the other; what comes meanwhile is left out.
final class Camera: NSObject, ObservableObject, AVCaptureVideoDataOutputSampleBufferDelegate {
  @Published private(set) var told = ""

  let session = AVCaptureSession()
  private let worker = DispatchQueue(label: "viewfinder.camera")
  private var classifier: Classifier?

  func start() {
    AVCaptureDevice.requestAccess(for: .video) { isGranted in
      guard isGranted else { return self.tell("This app needs the camera. Allow it in Settings.") }
      self.worker.async {
        do {
          if self.classifier == nil {
            self.classifier = try Classifier(bundle: .main)
            try self.configure()
          }
          self.session.startRunning()
        } catch {
          self.tell("\(error)")
        }
      }
    }
  }

  func stop() {
    worker.async { self.session.stopRunning() }
  }

  private func configure() throws {
    guard let device = AVCaptureDevice.default(for: .video) else { throw ClassifierError("this device has no camera") }
    session.beginConfiguration()
    defer { session.commitConfiguration() }
    session.sessionPreset = .vga640x480
    session.addInput(try AVCaptureDeviceInput(device: device))
    let output = AVCaptureVideoDataOutput()
    output.videoSettings = [
      kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_420YpCbCr8BiPlanarFullRange
    ]
    output.alwaysDiscardsLateVideoFrames = true
    output.setSampleBufferDelegate(self, queue: worker)
    session.addOutput(output)
  }

  func captureOutput(_ output: AVCaptureOutput, didOutput frame: CMSampleBuffer, from connection: AVCaptureConnection) {
    guard let pixels = CMSampleBufferGetImageBuffer(frame), let classifier = classifier else { return }
    do {
      let begin = ProcessInfo.processInfo.systemUptime
      // The camera gives a phone that is held upright a frame that lies on its side.
      let found = try classifier.answer(Frame(pixels: pixels, rotation: 90))
      let milliseconds = Int((ProcessInfo.processInfo.systemUptime - begin) * 1000)
      let percent = Int((found.first.probabilities.max() ?? 0) * 100)
      let lines =
        ["\(named(found.first)) \(percent)% · \(milliseconds) ms"]
        + found.further.map { "\($0.head.name): \(named($0))" }
      tell(lines.joined(separator: "\n"))
    } catch {
      tell("\(error)")
    }
  }

  private func named(_ said: Said) -> String {
    said.names.isEmpty ? "none of them" : said.names.joined(separator: ", ")
  }

  private func tell(_ text: String) {
    DispatchQueue.main.async { self.told = text }
  }
}
