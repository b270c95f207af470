plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

val deployed = rootProject.file(providers.gradleProperty("viewfinder.deployed").get())

android {
    namespace = "viewfinder.camera"
    compileSdk = 35

    defaultConfig {
        applicationId = "viewfinder.camera"
        minSdk = 28
        targetSdk = 35
        versionCode = 1
        versionName = "1.0"
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    kotlinOptions {
        jvmTarget = "17"
    }

    sourceSets {
        getByName("main") {
            java.srcDir(rootProject.file("../camera/java")) // CameraInput.java
            assets.srcDir(layout.buildDirectory.dir("deployed/main").get().asFile)
        }
        getByName("androidTest") {
            assets.srcDir(layout.buildDirectory.dir("deployed/test").get().asFile)
        }
    }

    androidResources {
        noCompress += "tflite" // it is mapped into memory, not read
    }
}

// The app takes the model, its labels and its manifest; the golden pictures go with the test alone.
val copyModel by tasks.registering(Copy::class) {
    from(deployed) { include("model.tflite", "labels.txt", "manifest.json") }
    into(layout.buildDirectory.dir("deployed/main"))
    doFirst { require(deployed.resolve("model.tflite").isFile) { "no model in $deployed: run `make repro` first" } }
}
val copyGolden by tasks.registering(Copy::class) {
    from(deployed) { include("golden/**") }
    into(layout.buildDirectory.dir("deployed/test"))
}
tasks.named("preBuild") { dependsOn(copyModel, copyGolden) }

dependencies {
    implementation(libs.activity)
    implementation(libs.camera.camera2)
    implementation(libs.camera.lifecycle)
    implementation(libs.camera.view)
    implementation(libs.litert)
    androidTestImplementation(libs.junit)
    androidTestImplementation(libs.junit.ext)
    androidTestImplementation(libs.test.runner)
}
