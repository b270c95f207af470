package androidx.test.platform.app;

import android.app.Instrumentation;

/** Stands for AndroidX's. */
public final class InstrumentationRegistry {
  private InstrumentationRegistry() {}

  public static Instrumentation getInstrumentation() {
    return new Instrumentation();
  }
}
