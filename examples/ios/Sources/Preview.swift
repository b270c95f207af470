import AVFoundation
import SwiftUI

/// What the camera sees.
struct Preview: UIViewRepresentable {
  let session: AVCaptureSession

  final class LayerView: UIView {
    override class var layerClass: AnyClass { AVCaptureVideoPreviewLayer.self }
  }

  func makeUIView(context: Context) -> LayerView {
    let view = LayerView()
    if let layer = view.layer as? AVCaptureVideoPreviewLayer {
      layer.session = session
      layer.videoGravity = .resizeAspectFill
    }
    return view
  }

  func updateUIView(_ view: LayerView, context: Context) {}
}
