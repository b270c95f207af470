package viewfinder.camera

import org.json.JSONArray
import org.json.JSONObject

/** A question that the model answers: the labels of its numbers, and from which probability on one is named. */
class Head(
    val name: String,
    val output: Int,
    val labels: List<String>,
    private val threshold: Float,
    private val mayNameSeveral: Boolean,
) {
    /** Names labels: the likeliest one or none, or all that are likely enough where several may be true together. */
    fun named(probabilities: FloatArray): List<String> {
        val candidates = if (mayNameSeveral) labels.indices.toList() else listOf(labels.indices.maxBy { probabilities[it] })
        return candidates.filter { probabilities[it] >= threshold }.map { labels[it] }
    }

    companion object {
        /** Returns the heads that manifest.json tells of; the first names what the takes' folders are called. */
        fun allOf(manifest: JSONObject): List<Head> {
            val output = manifest.getJSONObject("output")
            val further = output.optJSONArray("heads") ?: JSONArray()
            return listOf(Head("", 0, labels(manifest), threshold(output), false)) +
                List(further.length()) { further.getJSONObject(it) }.map {
                    Head(it.getString("name"), it.getInt("output"), labels(it), threshold(it), it.getString("kind") == "many")
                }
        }

        private fun labels(told: JSONObject) = told.getJSONArray("labels").let { all -> List(all.length()) { all.getString(it) } }

        /** Null is no threshold. */
        private fun threshold(told: JSONObject) = told.optDouble("threshold", 0.0).toFloat()
    }
}

/** What a head says about a picture; `names` is empty if it is none of the labels. */
class Said(val head: Head, val probabilities: FloatArray) {
    val names = head.named(probabilities)
}
