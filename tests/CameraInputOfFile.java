import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import viewfinder.camera.CameraInput;

/** Runs CameraInput of examples/camera on an I420 file, given width, height, rotation, side, crop; for the tests. */
public final class CameraInputOfFile {
  public static void main(String[] arguments) throws java.io.IOException {
    byte[] content = Files.readAllBytes(Path.of(arguments[0]));
    int width = Integer.parseInt(arguments[1]);
    int height = Integer.parseInt(arguments[2]);
    int side = Integer.parseInt(arguments[4]);
    int size = width * height;
    ByteBuffer y = ByteBuffer.wrap(content, 0, size).slice();
    ByteBuffer u = ByteBuffer.wrap(content, size, size / 4).slice();
    ByteBuffer v = ByteBuffer.wrap(content, size + size / 4, size / 4).slice();
    ByteBuffer input = ByteBuffer.allocate(side * side * 3);
    new CameraInput(y, width, u, v, width / 2, 1, width, height, Integer.parseInt(arguments[3]))
        .fill(input, side, Boolean.parseBoolean(arguments[5]));
    Files.write(Path.of(arguments[6]), input.array());
  }
}
