package android.content.res;

import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Path;

/** Stands for Android's: assets are a folder's files. */
public final class AssetManager {
  private final Path folder;

  public AssetManager(Path folder) {
    this.folder = folder;
  }

  public InputStream open(String name) throws IOException {
    return new FileInputStream(folder.resolve(name).toFile());
  }

  public AssetFileDescriptor openFd(String name) throws IOException {
    return new AssetFileDescriptor(folder.resolve(name));
  }
}
