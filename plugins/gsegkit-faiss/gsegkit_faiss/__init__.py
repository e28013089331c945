"""faiss as a k-means backend of gsegkit."""
