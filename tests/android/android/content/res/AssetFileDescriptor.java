package android.content.res;

import java.io.Closeable;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.file.Path;

/** Stands for Android's: the file is whole, and no part of a package. */
public final class AssetFileDescriptor implements Closeable {
  private final Path path;

  public AssetFileDescriptor(Path path) {
    this.path = path;
  }

  public FileInputStream createInputStream() throws IOException {
    return new FileInputStream(path.toFile());
  }

  public long getStartOffset() {
    return 0;
  }

  public long getDeclaredLength() {
    return path.toFile().length();
  }

  @Override
  public void close() {}
}
