import CoreVideo
import Foundation

/// A frame in full-range 4:2:0, as a camera or a golden file gives it.
struct Frame {
  private enum Source {
    case camera(CVPixelBuffer)
    case i420(Data, width: Int, height: Int)
  }

  private let source: Source
  private let rotation: Int32

  /// - Parameters:
  ///   - pixels: in kCVPixelFormatType_420YpCbCr8BiPlanarFullRange.
  ///   - rotation: degrees clockwise after which the frame is upright: 0, 90, 180 or 270.
  init(pixels: CVPixelBuffer, rotation: Int32) {
    source = .camera(pixels)
    self.rotation = rotation
  }

  /// - Parameter i420: luma, then U, then V, each row behind the other; upright.
  init(i420: Data, width: Int, height: Int) {
    source = .i420(i420, width: width, height: height)
    rotation = 0
  }

  /// Calls with the planes, which are there meanwhile and no longer.
  func withPlanes(_ body: (camera_frame) -> Void) {
    switch source {
    case .camera(let pixels):
      CVPixelBufferLockBaseAddress(pixels, .readOnly)
      defer { CVPixelBufferUnlockBaseAddress(pixels, .readOnly) }
      let luma = CVPixelBufferGetBaseAddressOfPlane(pixels, 0)!.assumingMemoryBound(to: UInt8.self)
      let colour = CVPixelBufferGetBaseAddressOfPlane(pixels, 1)!.assumingMemoryBound(to: UInt8.self)
      body(
        camera_frame(
          y: luma, u: colour, v: colour + 1,
          y_row_stride: Int32(CVPixelBufferGetBytesPerRowOfPlane(pixels, 0)),
          colour_row_stride: Int32(CVPixelBufferGetBytesPerRowOfPlane(pixels, 1)), colour_pixel_stride: 2,
          width: Int32(CVPixelBufferGetWidth(pixels)), height: Int32(CVPixelBufferGetHeight(pixels)),
          rotation: rotation))
    case .i420(let data, let width, let height):
      data.withUnsafeBytes { (bytes: UnsafeRawBufferPointer) in
        let luma = bytes.bindMemory(to: UInt8.self).baseAddress!
        let u = luma + width * height
        body(
          camera_frame(
            y: luma, u: u, v: u + width * height / 4,
            y_row_stride: Int32(width), colour_row_stride: Int32(width / 2), colour_pixel_stride: 1,
            width: Int32(width), height: Int32(height), rotation: rotation))
      }
    }
  }
}
