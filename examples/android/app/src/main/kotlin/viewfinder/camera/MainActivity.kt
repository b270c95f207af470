package viewfinder.camera

import android.Manifest
import android.content.pm.PackageManager
import android.os.Bundle
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.Preview
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.camera.view.PreviewView
import java.util.concurrent.Executors

/** The camera's preview with the model's answer below it. */
class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor()
    private val made = lazy { Classifier(this) } // by the worker, which alone uses it
    private val classifier by made
    private lateinit var answer: TextView

    private val permission = registerForActivityResult(ActivityResultContracts.RequestPermission()) { isGranted ->
        if (isGranted) startCamera() else answer.setText(R.string.no_camera)
    }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        answer = findViewById(R.id.answer)
        if (checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED) {
            startCamera()
        } else {
            permission.launch(Manifest.permission.CAMERA)
        }
    }

    override fun onDestroy() {
        worker.execute { if (made.isInitialized()) classifier.close() }
        worker.shutdown()
        super.onDestroy()
    }

    private fun startCamera() {
        val provider = ProcessCameraProvider.getInstance(this)
        provider.addListener({
            val preview = Preview.Builder().build()
            preview.surfaceProvider = findViewById<PreviewView>(R.id.preview).surfaceProvider
            val analysis = ImageAnalysis.Builder()
                .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_YUV_420_888)
                .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
                .build()
            analysis.setAnalyzer(worker) { frame -> frame.use(::look) }
            provider.get().bindToLifecycle(this, CameraSelector.DEFAULT_BACK_CAMERA, preview, analysis)
        }, mainExecutor)
    }

    private fun look(frame: ImageProxy) {
        val (y, u, v) = frame.planes
        val found = classifier.answer(
            CameraInput(
                y.buffer, y.rowStride, u.buffer, v.buffer, u.rowStride, u.pixelStride,
                frame.width, frame.height, frame.imageInfo.rotationDegrees,
            ),
        )
        val percent = (found.first.probabilities.max() * 100).toInt()
        val lines = listOf(getString(R.string.answer, named(found.first), percent, found.milliseconds)) +
            found.further.map { getString(R.string.further, it.head.name, named(it)) }
        runOnUiThread { answer.text = lines.joinToString("\n") }
    }

    private fun named(said: Said) = said.names.joinToString().ifEmpty { getString(R.string.none_of_them) }
}
