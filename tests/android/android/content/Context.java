package android.content;

import android.content.res.AssetManager;
import java.nio.file.Path;

/** Stands for Android's: assets are a folder's files. */
public final class Context {
  private final AssetManager assets;

  public Context(Path folder) {
    assets = new AssetManager(folder);
  }

  public AssetManager getAssets() {
    return assets;
  }
}
