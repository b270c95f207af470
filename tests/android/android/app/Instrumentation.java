package android.app;

import android.content.Context;
import java.nio.file.Path;

/** Stands for Android's: the deployed folder is what both the app and its test have as assets. */
public final class Instrumentation {
  public Context getContext() {
    return new Context(Path.of(System.getProperty("deployed")));
  }

  public Context getTargetContext() {
    return getContext();
  }
}
