import SwiftUI

@main
struct ViewfinderCameraApp: App {
  var body: some Scene {
    WindowGroup { CameraScreen() }
  }
}

/// The camera's preview with the model's answer below it.
struct CameraScreen: View {
  @StateObject private var camera = Camera()

  var body: some View {
    ZStack(alignment: .bottom) {
      Preview(session: camera.session).ignoresSafeArea()
      Text(camera.told)
        .font(.title2)
        .foregroundColor(.white)
        .multilineTextAlignment(.center)
        .padding(24)
        .frame(maxWidth: .infinity)
        .background(Color.black.opacity(0.6))
    }
    .onAppear { camera.start() }
    .onDisappear { camera.stop() }
  }
}
