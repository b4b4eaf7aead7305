// Search without a server: browsers start no worker for a page that is opened from disk, so an iframe does its work.
if (location.protocol === "file:") {
  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.frame = frame;
      const page = frame.contentWindow;
      page.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data })); // as the worker calls it
      this.loaded = new Promise((resolve, reject) => {
        const script = page.document.createElement("script");
        script.onload = () => resolve(page);
        script.onerror = () => reject(new Error(`cannot load ${url}`));
        script.src = url;
        page.document.body.append(script);
      });
    }
    async postMessage(data) {
      (await this.loaded).dispatchEvent(new MessageEvent("message", { data }));
    }
    terminate() {
      this.frame.remove();
    }
  }
  window.IFrameWorker = window.Worker = IFrameWorker;
}
